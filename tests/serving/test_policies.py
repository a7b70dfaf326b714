"""Which versions are served by which policy, how they come and go, and what is tried again."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from serving.modelserver.fingerprints import fingerprint
from serving.modelserver.loaded import Loaded, Retired
from serving.modelserver.version_policy import VersionPolicy
from serving.modelserver.version_status import State
from serving.modelserver.versions import Retries, VersionWatcher
from tests.serving.engines import Doubler
from tests.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

NEWEST = VersionPolicy()
TWO = VersionPolicy(newest=2)
ALL = VersionPolicy(newest=None)


def write(base_path: Path, *versions: int) -> None:
    for version in versions:
        folder = base_path / str(version)
        folder.mkdir()
        (folder / "saved_model.pb").write_bytes(b"a graph")


class Watched:
    """A watcher of engines that are no models; it is polled by hand."""

    def __init__(self, base_path: Path, policy: VersionPolicy, **options: Any) -> None:
        self.engines: dict[int, Doubler] = {}
        self.failures: dict[int, Exception] = {}
        self.watcher = VersionWatcher(base_path, self._load, policy=policy, **options)

    def _load(self, folder: Path) -> Doubler:
        version = int(folder.name)
        if version in self.failures:
            raise self.failures[version]
        self.engines[version] = Doubler(folder)
        return self.engines[version]

    def poll(self) -> list[int]:
        """The versions that are served after two looks: a folder that was just written is whole at the second."""
        self.watcher.poll()
        self.watcher.poll()
        return list(self.watcher.loaded)

    def is_closed(self, version: int) -> bool:
        return self.engines[version].closed

    def states(self) -> dict[int, State]:
        return {status.version: status.state for status in self.watcher.statuses()}


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        (NEWEST, [4]),
        (TWO, [4, 3]),
        (ALL, [4, 3, 1]),
        (VersionPolicy(specific=(1, 3)), [3, 1]),
        (VersionPolicy(specific=(1, 2)), [1]),
        (VersionPolicy(specific=(9,)), []),
    ],
)
def test_a_policy_chooses_the_versions(tmp_path: Path, policy: VersionPolicy, served: list[int]) -> None:
    write(tmp_path, 1, 3, 4)
    assert Watched(tmp_path, policy).poll() == served


@pytest.mark.parametrize(
    ("policy", "loaded", "attainable"),
    [
        (VersionPolicy(newest=1), {2, 3}, {3}),
        (VersionPolicy(newest=1), {2}, {2, 3}),  # 3 may turn out broken
        (VersionPolicy(newest=2), {1, 2, 3}, {2, 3}),
        (VersionPolicy(newest=2), {3}, {1, 2, 3}),
        (VersionPolicy(newest=None), {3}, {1, 2, 3}),
        (VersionPolicy(specific=(1, 2)), {1, 2, 3}, {1, 2}),
        (VersionPolicy(newest=1), set(), {1, 2, 3}),
    ],
)
def test_what_may_come_to_be_served(policy: VersionPolicy, loaded: set[int], attainable: set[int]) -> None:
    assert policy.attainable({1, 2, 3}, loaded) == attainable


def test_folders_of_other_digits_are_no_versions(tmp_path: Path) -> None:
    write(tmp_path, 1)
    (tmp_path / "1").rename(tmp_path / "\N{ARABIC-INDIC DIGIT THREE}")
    write(tmp_path, 1)
    assert Watched(tmp_path, VersionPolicy(newest=None)).poll() == [1]


def test_versions_that_need_not_be_served_are_not_said_to_be_coming(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    watched = Watched(tmp_path, NEWEST)
    assert watched.poll() == [2]
    assert watched.states() == {2: State.AVAILABLE}


def test_a_newer_version_takes_the_place_of_the_oldest(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    watched = Watched(tmp_path, TWO)
    assert watched.poll() == [2, 1]
    write(tmp_path, 3)
    assert watched.poll() == [3, 2]
    assert watched.is_closed(1)
    assert watched.states() == {1: State.END, 2: State.AVAILABLE, 3: State.AVAILABLE}


def test_a_broken_version_leaves_its_place_to_the_next_older(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, 3)
    watched = Watched(tmp_path, TWO)
    watched.failures[3] = ValueError("no graph")
    assert watched.poll() == [2, 1]
    assert watched.states()[3] is State.END


def test_another_policy_is_followed(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, 3)
    watched = Watched(tmp_path, NEWEST)
    assert watched.poll() == [3]
    watched.watcher.follow(tmp_path, VersionPolicy(specific=(1,)))
    assert watched.poll() == [1]
    watched.watcher.follow(tmp_path, ALL)
    assert watched.poll() == [3, 2, 1]


def test_what_vanished_is_unloaded_only_when_another_is_there(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    watched = Watched(tmp_path, NEWEST)
    assert watched.poll() == [2]
    watched.failures[1] = ValueError("no graph")
    shutil.rmtree(tmp_path / "2")
    assert watched.poll() == [2]
    shutil.rmtree(tmp_path / "1")
    assert watched.poll() == []
    assert watched.is_closed(2)


def test_a_version_is_unloaded_behind_the_last_request_in_it(tmp_path: Path) -> None:
    write(tmp_path, 1)
    watched = Watched(tmp_path, NEWEST)
    watched.poll()
    loaded = watched.watcher.loaded[1]
    with loaded.lease():
        write(tmp_path, 2)
        assert watched.poll() == [2]
        assert watched.states()[1] is State.UNLOADING
        with loaded.lease():  # a request that found it just before
            assert not watched.is_closed(1)
        assert watched.poll() == [2]
        assert watched.states()[1] is State.UNLOADING
    wait_for(lambda: watched.states()[1] is State.END, 10, "version 1 to be unloaded")
    assert watched.is_closed(1)
    with pytest.raises(Retired), loaded.lease():
        pass


def test_leases_of_many_threads_and_a_retirement_never_meet_a_closed_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.modelserver.loaded._give_back", lambda: None)  # half a second beside TensorFlow
    for _ in range(50):
        engine = Doubler()
        loaded = Loaded(1, engine, 0.0)
        closed = threading.Event()
        met_closed: list[bool] = []

        def use(loaded: Loaded = loaded, engine: Doubler = engine, met_closed: list[bool] = met_closed) -> None:
            try:
                for _ in range(100):
                    with loaded.lease():
                        met_closed.append(engine.closed)
            except Retired:
                pass

        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        loaded.retire(closed.set)
        for thread in threads:
            thread.join()
        assert closed.wait(10)
        assert not any(met_closed)
        assert engine.closed


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


def test_a_version_of_the_same_number_in_another_base_path_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, 1)
    watched = Watched(tmp_path / "a", NEWEST)
    watched.poll()
    before = watched.engines[1]
    watched.failures[1] = ValueError("broken")
    watched.watcher.follow(tmp_path / "b", NEWEST)
    assert watched.poll() == [1]  # what was served goes on
    assert (watched.watcher.wanted, before.closed) == (set(), False)
    assert watched.watcher.failures == ["ValueError: broken"]
    watched.watcher.follow(tmp_path / "a", NEWEST)
    assert watched.poll() == [1]
    assert (watched.states(), watched.watcher.failures) == ({1: State.AVAILABLE}, [])
    watched.watcher.follow(tmp_path / "b", NEWEST)
    watched.failures.clear()
    (tmp_path / "b" / "1" / "saved_model.pb").write_bytes(b"mended")
    assert watched.poll() == [1]
    assert watched.engines[1].path == tmp_path / "b" / "1"
    assert (watched.watcher.wanted, before.closed) == ({1}, True)
    assert watched.states() == {1: State.AVAILABLE}


def test_what_is_wrong_with_a_version_is_said_when_that_of_its_number_elsewhere_is_unloaded(tmp_path: Path) -> None:
    for name, versions in (("a", (2,)), ("b", (1, 2))):
        (tmp_path / name).mkdir()
        write(tmp_path / name, *versions)
    watched = Watched(tmp_path / "a", NEWEST)
    assert watched.poll() == [2]
    watched.failures[2] = ValueError("broken")
    watched.watcher.follow(tmp_path / "b", NEWEST)
    assert watched.poll() == [1]
    assert watched.states() == {2: State.END, 1: State.AVAILABLE}
    assert watched.watcher.failures == ["ValueError: broken"]


def test_a_retry_that_cannot_be_made_is_not_looked_for_all_the_time(full_disk: Watched) -> None:
    full_disk.poll()
    away = full_disk.watcher.base_path.with_name("away")
    (full_disk.watcher.base_path / "1" / "saved_model.pb").rename(away)
    full_disk.poll()
    assert full_disk.watcher._pause_s() == 1.0
    away.rename(full_disk.watcher.base_path / "1" / "saved_model.pb")


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


def test_a_version_that_is_asked_for_and_not_there_is_said_once(tmp_path: Path) -> None:
    write(tmp_path, 1)
    watched = Watched(tmp_path, VersionPolicy(specific=(1, 7)), model="birds")
    with capture_logs() as lines:
        assert watched.poll() == [1]
    said = [line for line in lines if "has no folder" in line["event"]]
    assert [(line["version"], line["model"]) for line in said] == [(7, "birds")]


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
