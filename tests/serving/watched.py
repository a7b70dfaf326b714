"""A watcher of engines that are no models, for tests of which versions come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from serving.modelserver.version_policy import VersionPolicy
from serving.modelserver.versions import VersionWatcher
from tests.serving.engines import Doubler

if TYPE_CHECKING:
    from pathlib import Path

    from serving.modelserver.version_status import State

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
        self.most_open = 0
        """Engines that were there at once."""
        self.watcher = VersionWatcher(base_path, self._load, policy=policy, **options)

    def _load(self, folder: Path) -> Doubler:
        version = int(folder.name)
        if version in self.failures:
            raise self.failures[version]
        self.engines[version] = Doubler(folder)
        self.most_open = max(self.most_open, sum(not each.closed for each in self.engines.values()))
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
