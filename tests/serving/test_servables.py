"""Models that come and go, and what is said of them afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from serving.failures import CannotLoadNow
from serving.modelserver.model_config import ModelConfig
from serving.modelserver.servables import Servables
from serving.modelserver.version_policy import VersionPolicy
from serving.modelserver.versions import Retries, State, VersionWatcher
from tests.serving.engines import Doubler
from tests.serving.test_policies import write
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def load(folder: Path) -> Doubler:
    if folder.name == "2":
        raise CannotLoadNow("no memory")
    return Doubler(folder)


def watch(model: ModelConfig, changed: Callable[[], None]) -> VersionWatcher:
    retries = Retries(5, 3600.0)
    return VersionWatcher(
        model.base_path, load, policy=model.policy, poll_s=0.05, retries=retries, passing=bool, on_change=changed
    )


@pytest.fixture
def servables() -> Iterator[Servables]:
    made = Servables(watch)
    yield made
    made.stop()


def states(servables: Servables, model: str) -> dict[int, State]:
    return {each.version: each.state for each in servables.statuses(model)}


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
