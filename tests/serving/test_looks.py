"""When versions are looked at, what is tried again, and what a look may meet."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from serving.modelserver.fingerprints import fingerprint
from serving.modelserver.version_policy import VersionPolicy
from serving.modelserver.version_status import State
from serving.modelserver.versions import Retries
from tests.serving.watched import ALL, NEWEST, Watched, write
from tests.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def full_disk(tmp_path: Path) -> Watched:
    write(tmp_path, 1)
    watched = Watched(tmp_path, NEWEST, retries=Retries(2, 0.0))
    watched.failures[1] = OSError("the disk is away")
    return watched


def test_a_reason_that_may_pass_is_tried_again(full_disk: Watched) -> None:
    assert full_disk.poll() == []
    assert full_disk.states()[1] is State.LOADING
    full_disk.failures.clear()
    assert full_disk.poll() == [1]


def test_after_so_many_tries_a_version_is_given_up_until_its_files_change(full_disk: Watched) -> None:
    for _ in range(3):
        full_disk.poll()
    (status,) = full_disk.watcher.statuses()
    assert (status.state, status.error) == (State.END, "OSError: the disk is away")
    full_disk.failures.clear()
    assert full_disk.poll() == []
    (full_disk.watcher.base_path / "1" / "saved_model.pb").write_bytes(b"another graph")
    assert full_disk.poll() == [1]


@pytest.mark.parametrize("policy", [NEWEST, VersionPolicy(specific=(2,))])
def test_a_version_that_would_be_tried_again_is_given_up_once_it_is_not_wanted(
    full_disk: Watched, policy: VersionPolicy
) -> None:
    full_disk.poll()
    assert full_disk.states() == {1: State.LOADING}
    write(full_disk.watcher.base_path, 2)
    full_disk.watcher.follow(full_disk.watcher.base_path, policy)
    assert full_disk.poll() == [2]
    (_, left) = full_disk.watcher.statuses()
    assert (left.version, left.state, left.error) == (1, State.END, "OSError: the disk is away")


def test_a_retry_that_cannot_be_made_is_not_looked_for_all_the_time(full_disk: Watched) -> None:
    full_disk.poll()
    away = full_disk.watcher.base_path.with_name("away")
    (full_disk.watcher.base_path / "1" / "saved_model.pb").rename(away)
    full_disk.poll()
    assert full_disk.watcher._pause_s() == 1.0
    away.rename(full_disk.watcher.base_path / "1" / "saved_model.pb")


def test_rare_looks_hold_up_neither_what_was_just_written_nor_what_is_tried_again(tmp_path: Path) -> None:
    write(tmp_path, 1)
    watched = Watched(tmp_path, ALL, poll_s=3600.0, retries=Retries(9, 0.1))
    watched.failures[1] = OSError("the disk is away")
    watched.watcher.start()
    wait_for(lambda: watched.states().get(1) is State.LOADING, 20, "the first try")
    watched.failures.clear()
    wait_for(lambda: list(watched.watcher.loaded) == [1], 20, "the next one")
    assert watched.watcher._pause_s() == 3600.0
    watched.watcher.stop()


@pytest.mark.parametrize("poll_s", [0.05, 0.0])
def test_whatever_is_wrong_with_a_look_there_is_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, poll_s: float
) -> None:
    write(tmp_path, 1)
    watched = Watched(tmp_path, ALL, poll_s=poll_s)
    looks: list[int] = []
    folders = watched.watcher._folders

    def short_of_memory(base_path: Path) -> Any:
        looks.append(1)
        if len(looks) < 4:
            raise MemoryError
        return folders(base_path)

    monkeypatch.setattr(watched.watcher, "_folders", short_of_memory)
    with capture_logs() as lines:
        watched.watcher.start()
        wait_for(lambda: list(watched.watcher.loaded) == [1], 20, "memory to be there again")
        watched.watcher.stop()
    assert [line["error"] for line in lines if line["log_level"] == "warning"] == ["MemoryError: "]


def test_without_a_wait_the_folders_are_looked_at_once(tmp_path: Path) -> None:
    write(tmp_path, 1)
    watched = Watched(tmp_path, NEWEST, poll_s=0)
    watched.watcher.start()
    wait_for(lambda: list(watched.watcher.loaded) == [1], 20, "what is there at the first look")
    write(tmp_path, 2)
    threading.Event().wait(1.5)
    assert list(watched.watcher.loaded) == [1]
    watched.watcher.follow(tmp_path, NEWEST)
    wait_for(lambda: list(watched.watcher.loaded) == [2], 20, "another look when told")
    watched.watcher.stop()
    assert watched.is_closed(2)


def test_a_link_to_itself_in_a_version_keeps_nobody_from_loading_it(tmp_path: Path) -> None:
    write(tmp_path, 1)
    (tmp_path / "1" / "itself").symlink_to("itself")
    assert Watched(tmp_path, NEWEST).poll() == [1]


def test_a_version_that_cannot_be_looked_into_is_said_once_and_the_one_before_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 1, 2)

    def looked(folder: Path) -> Any:
        if folder.name == "2":
            raise PermissionError(13, "Permission denied", str(folder))
        return fingerprint(folder)

    monkeypatch.setattr("serving.modelserver.versions.fingerprint", looked)
    watched = Watched(tmp_path, NEWEST)
    with capture_logs() as lines:
        assert watched.poll() == [1]
    assert ["Permission denied" in line["error"] for line in lines if "looked into" in line["event"]] == [True]
    monkeypatch.undo()
    assert watched.poll() == [2]
