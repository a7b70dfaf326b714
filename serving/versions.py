"""Watches a model's base path and keeps the newest whole version loaded.

A version is a folder whose name is a number. It is loaded once it is whole (its files have stopped changing), and
takes over only once it has answered its warm-up requests; until then, and if it turns out broken, the version before
goes on serving. A broken version is tried again when its files change. Vanished folders are unloaded.
"""

from __future__ import annotations

import gc
import threading
import time
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from earshot.logs import get_log
from serving.layout import SAVED_MODEL_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

log = get_log(__name__)

SETTLED_S = 1.0
"""A folder that nothing has touched for so long is whole."""

MOST_VERSION = 2**63 - 1
"""The highest number that the protocol can say: a folder of a higher one is no version."""

Fingerprint = tuple[tuple[str, int, int], ...]


class Engine(Protocol):
    """A loaded version that can be run."""

    @property
    def signature_defs(self) -> Mapping[str, Any]:
        """TensorFlow's SignatureDef of each signature, by name."""
        ...

    def run(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name, of checked inputs by name; called by several threads at once."""
        ...


class State(Enum):
    """Where a version stands, in TensorFlow Serving's terms."""

    START = "START"
    """Found, and not whole yet."""
    LOADING = "LOADING"
    AVAILABLE = "AVAILABLE"
    UNLOADING = "UNLOADING"
    END = "END"
    """Unloaded, or could not be loaded: then there is an error."""


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """What became of one version."""

    version: int
    state: State
    error: str = ""
    """Why it could not be loaded."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The version that is served."""

    version: int
    engine: Engine
    load_s: float
    """Seconds from opening its files to AVAILABLE, warm-up included."""


def version_folders(base_path: Path) -> dict[int, Path]:
    """The folders in `base_path` whose name is a number, by that number, whatever it is."""
    return {int(path.name): path for path in base_path.iterdir() if path.name.isdecimal() and path.is_dir()}


class VersionWatcher:
    """Loads and unloads the versions under `base_path`; `load` makes a warm engine of a version's folder.

    `on_change` is called after each change of `loaded`, from the watcher's thread.
    """

    def __init__(
        self,
        base_path: Path,
        load: Callable[[Path], Engine],
        *,
        poll_s: float = 1.0,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.base_path = base_path
        self.loaded: Loaded | None = None
        self._load = load
        self._poll_s = poll_s
        self._on_change = on_change
        self._statuses: dict[int, VersionStatus] = {}
        self._seen: dict[int, Fingerprint] = {}
        self._broken: dict[int, Fingerprint] = {}
        self._too_high: set[int] = set()
        self._idle = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="versions", daemon=True)

    def start(self) -> None:
        """Begin to watch, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End watching, and wait until a load under way has ended."""
        self._stop.set()
        self._thread.join()

    def statuses(self) -> list[VersionStatus]:
        """The status of each version that was found, the newest first."""
        return sorted(self._statuses.copy().values(), key=lambda status: -status.version)

    def poll(self) -> None:
        """Look once at the base path and bring `loaded` up to what stands there."""
        folders = self._folders()
        for gone in self._statuses.keys() - folders.keys():
            if self.loaded is None or gone != self.loaded.version:
                self._forget(gone)
        for version in sorted(folders, reverse=True):
            if self._stop.is_set() or (self.loaded is not None and version == self.loaded.version):
                return
            if self._is_ready(version, folders[version]) and self._try(version, folders[version]):
                return
        if not folders and self.loaded is not None:
            unloaded, self.loaded = self.loaded.version, None
            self._on_change()
            self._retire(unloaded)
        if not folders and not self._idle:
            log.warning("no version to serve, waiting for a numeric folder", base_path=str(self.base_path))
        self._idle = not folders

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                self.poll()
            except OSError as error:
                log.warning("cannot read the model base path, trying again", error=str(error))
            self._stop.wait(self._poll_s)

    def _folders(self) -> dict[int, Path]:
        try:
            numbered = version_folders(self.base_path)
        except FileNotFoundError:
            return {}
        too_high = {version for version in numbered if version > MOST_VERSION}
        for version in too_high - self._too_high:
            log.warning("folder ignored, its number is too high for a version", folder=str(numbered[version]))
        self._too_high = too_high
        return {version: path for version, path in numbered.items() if version not in too_high}

    def _is_ready(self, version: int, folder: Path) -> bool:
        """Whether the version is whole, and not known to be broken as it is."""
        try:
            print_now, touched_s = _fingerprint(folder)
        except OSError:
            return False  # it vanished, or is being moved
        if self._broken.get(version) == print_now:
            return False
        unchanged = self._seen.get(version) == print_now or time.time() - touched_s > SETTLED_S
        self._seen[version] = print_now
        whole = unchanged and any(name.startswith(SAVED_MODEL_FILE) for name, _, _ in print_now)
        if not whole and version not in self._statuses:
            log.info("version found, waiting until it is whole", version=version)
        if not whole and version not in self._broken:
            self._set(version, State.START)
        return whole

    def _try(self, version: int, folder: Path) -> bool:
        """Load a version and let it take over from the one before; whether it could be loaded."""
        self._set(version, State.LOADING)
        started = time.monotonic()
        try:
            engine = self._load(folder)
        except Exception as error:  # whatever a broken model raises, the server goes on
            message = f"{type(error).__name__}: {error}".strip()
            self._broken[version] = self._seen[version]
            self._set(version, State.END, message)
            log.warning("version is broken and is not served", version=version, error=message[:500])
            return False
        before = self.loaded.version if self.loaded is not None else None
        self.loaded = Loaded(version, engine, time.monotonic() - started)
        self._broken.pop(version, None)
        self._set(version, State.AVAILABLE)
        log.info("version available", version=version, load_s=round(self.loaded.load_s, 2))
        self._on_change()
        if before is not None:
            self._retire(before)
        return True

    def _retire(self, version: int) -> None:
        # Requests in flight hold the engine themselves; its memory goes when the last of them has been answered.
        self._set(version, State.UNLOADING)
        gc.collect()
        self._set(version, State.END)
        log.info("version unloaded", version=version)

    def _set(self, version: int, state: State, error: str = "") -> None:
        self._statuses[version] = VersionStatus(version, state, error)

    def _forget(self, version: int) -> None:
        for table in (self._statuses, self._seen, self._broken):
            table.pop(version, None)


def _fingerprint(folder: Path) -> tuple[Fingerprint, float]:
    """Path, size and time of every file, and when anything in there last changed (seconds since the epoch)."""
    entries = [(path, path.stat()) for path in sorted(folder.rglob("*"))]
    # Copying tools set the time of modification back to the original's, but no tool can set the time of change.
    touched_s = max((status.st_ctime for _, status in entries), default=folder.stat().st_ctime)
    return tuple((str(path.relative_to(folder)), each.st_size, each.st_ctime_ns) for path, each in entries), touched_s
