"""Models of engines that are no models, for tests of what a server offers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serving.failures import CannotLoadNow
from serving.modelserver.model_config import ModelConfig
from serving.modelserver.version_policy import VersionPolicy
from serving.modelserver.version_status import State
from serving.modelserver.versions import Retries, VersionWatcher
from tests.serving.engines import Doubler
from tests.serving.watched import write
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from serving.modelserver.servables import Servables


def load(folder: Path) -> Doubler:
    if folder.name == "2":
        raise CannotLoadNow("no memory")
    return Doubler(folder)


def watch(
    model: ModelConfig,
    changed: Callable[[], None],
    load: Callable[[Path], Doubler] = load,
    poll_s: float = 0.05,
    passing: Callable[[Exception], bool] = bool,
) -> VersionWatcher:
    retries = Retries(5, 3600.0)
    return VersionWatcher(
        model.base_path, load, policy=model.policy, poll_s=poll_s, retries=retries, passing=passing, on_change=changed
    )


def base_paths(folder: Path, **versions: tuple[int, ...]) -> None:
    """A base path of each name in `folder`, with these versions."""
    for name, own in versions.items():
        (folder / name).mkdir()
        write(folder / name, *own)


def states(servables: Servables, model: str) -> dict[int, State]:
    return {each.version: each.state for each in servables.statuses(model)}


def served(base_path: Path, servables: Servables, *versions: int) -> ModelConfig:
    """A model of which these versions, all that are there, are served."""
    model = ModelConfig("m", base_path, VersionPolicy(newest=None))
    servables.offer([model])
    wait_for(lambda: states(servables, "m") == dict.fromkeys(versions, State.AVAILABLE), 20, "all to be served")
    return model
