"""Models that come and go, and what is said of them afterwards."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from serving.modelserver.model_config import ModelConfig
from serving.modelserver.version_policy import VersionPolicy
from serving.modelserver.version_status import State
from tests.serving.offered import base_paths, served, states
from tests.serving.watched import write
from tests.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from serving.modelserver.servables import Servables


def test_of_a_model_that_is_offered_no_more_the_versions_that_were_served_are_told(
    tmp_path: Path, servables: Servables
) -> None:
    write(tmp_path, 1, 2)
    model = ModelConfig("m", tmp_path, VersionPolicy(newest=None))
    for _ in range(3):
        servables.offer([model])
        wait_for(
            lambda: states(servables, "m") == {1: State.AVAILABLE, 2: State.LOADING},
            20,
            "one to be served, one to wait",
        )
        servables.offer([])
        wait_for(lambda: states(servables, "m") == {1: State.END}, 20, "all that was served to be unloaded")
    (tmp_path / "1").rename(tmp_path / "3")
    servables.offer([model])
    wait_for(
        lambda: states(servables, "m") == {1: State.END, 2: State.LOADING, 3: State.AVAILABLE}, 20, "another version"
    )


def test_nothing_is_kept_of_models_of_which_nothing_was_served(tmp_path: Path, servables: Servables) -> None:
    for number in range(5):
        servables.offer([ModelConfig(f"m{number}", tmp_path)])
    servables.offer([])
    wait_for(lambda: not any(servables.statuses(f"m{number}") for number in range(5)), 20, "all to be forgotten")
    servables.offer([])
    assert servables._past == {}


def test_of_what_is_served_it_is_said_whatever_was_tried_elsewhere(tmp_path: Path, servables: Servables) -> None:
    base_paths(tmp_path, m=(1,), other=(3,))
    served(tmp_path / "m", servables, 1)
    watcher, elsewhere = servables.watchers["m"], tmp_path / "other"
    (elsewhere / "1").mkdir()
    watcher.follow(elsewhere, VersionPolicy(specific=(1,)))
    wait_for(lambda: states(servables, "m")[1] is State.START, 20, "the empty folder to be seen")
    watcher.follow(elsewhere, VersionPolicy(specific=(9,)))
    wait_for(lambda: watcher.looked, 20, "another look")
    watcher.follow(tmp_path / "m", VersionPolicy())
    wait_for(lambda: states(servables, "m") == {1: State.AVAILABLE}, 20, "it to be said")


def test_while_the_base_path_is_away_its_versions_go_on_being_served(tmp_path: Path, servables: Servables) -> None:
    (tmp_path / "m").mkdir()
    write(tmp_path / "m", 1)
    served(tmp_path / "m", servables, 1)
    before = servables.watchers["m"].latest
    with capture_logs() as lines:
        (tmp_path / "m").rename(tmp_path / "away")
        wait_for(lambda: lines, 20, "it to be missed")
        time.sleep(0.3)
        (tmp_path / "away").rename(tmp_path / "m")
        write(tmp_path / "m", 3)
        wait_for(lambda: states(servables, "m").get(3) is State.AVAILABLE, 20, "it to be looked at again")
    assert servables.watchers["m"].loaded[1] is before
    assert [line["event"] for line in lines if line["log_level"] == "warning"] == [
        "cannot read the model base path, trying again"
    ]


def test_a_link_that_leads_nowhere_is_no_reason_not_to_serve(tmp_path: Path, servables: Servables) -> None:
    write(tmp_path, 1)
    (tmp_path / "1" / ".#notes").symlink_to("nobody@nowhere.1234")
    served(tmp_path, servables, 1)
