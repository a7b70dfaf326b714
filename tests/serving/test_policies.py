"""Which versions are served by which policy, and how they come and go."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from serving.modelserver.loaded import Retired
from serving.modelserver.version_policy import VersionPolicy
from serving.modelserver.version_status import State
from tests.serving.watched import ALL, NEWEST, TWO, Watched, write
from tests.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path


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


def test_of_several_that_are_replaced_each_goes_as_soon_as_it_can(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    watched = Watched(tmp_path, TWO)
    assert watched.poll() == [2, 1]
    write(tmp_path, 3, 4)
    assert watched.poll() == [4, 3]
    assert watched.most_open == 3


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


def test_a_version_that_is_asked_for_and_not_there_is_said_once(tmp_path: Path) -> None:
    write(tmp_path, 1)
    watched = Watched(tmp_path, VersionPolicy(specific=(1, 7)), model="birds")
    with capture_logs() as lines:
        assert watched.poll() == [1]
    said = [line for line in lines if "has no folder" in line["event"]]
    assert [(line["version"], line["model"]) for line in said] == [(7, "birds")]
