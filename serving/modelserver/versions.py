"""Watches a model's base path and keeps the versions that are to be served loaded.

A version is a folder whose name is a number. It is loaded once it is whole (its files have stopped changing), and is
served only once it has answered its warm-up requests; until then, and if it turns out broken, those before go on
serving. What fails for a reason that may pass is tried again a few times; a broken version when its files change.
Versions that are no longer to be served, or whose folder has vanished, are unloaded when the last request in them has
been answered; while versions are there that could be served, never before one of them is, and none while the base path
is away.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from earshot.logs import get_log
from serving.layout import MOST_VERSION, SAVED_MODEL_FILE, version_folders
from serving.modelserver.fingerprints import fingerprint
from serving.modelserver.loaded import Loaded
from serving.modelserver.version_policy import VersionPolicy
from serving.modelserver.version_records import Failure, VersionRecords
from serving.modelserver.version_status import State, VersionStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from serving.engines.engine import Engine

log = get_log(__name__)

SETTLED_S = 1.0
"""A folder that nothing has touched for so long is whole."""
_LEAST_PAUSE_S = 0.05
"""Between two looks."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a load that failed for a reason that may pass (no memory, a disk that is away) is tried again."""

    most: int = 5
    interval_s: float = 60.0


class VersionWatcher:
    """Loads and unloads the versions under `base_path`; `load` makes a warm engine of a version's folder.

    `on_change` is called after each change of `loaded`, mostly from the watcher's thread.
    """

    def __init__(
        self,
        base_path: Path,
        load: Callable[[Path], Engine],
        *,
        model: str = "",
        policy: VersionPolicy | None = None,
        poll_s: float = 1.0,
        retries: Retries | None = None,
        passing: Callable[[Exception], bool] = lambda error: isinstance(error, OSError),
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Watch from `start` on.

        model: its name, for the log. poll_s: seconds between two looks; 0 or less: once, until all that was found then
        is loaded. passing: whether the reason of a failure may pass.
        """
        self._target = base_path, policy or VersionPolicy()
        self.loaded: dict[int, Loaded] = {}
        """The versions that are served, the highest first; a new dictionary at each change."""
        self._asked, self._answered = 1, 0
        self._load = load
        self._log = log.bind(model=model) if model else log
        self._missing: set[int] = set()
        self._poll_s = poll_s
        self._retries = retries or Retries()
        self._passing = passing
        self._on_change = on_change
        self._records = VersionRecords()
        self._too_high: set[int] = set()
        self._growing: set[int] = set()
        """Found in the last look, with files that may still be changing, or requests that are still to be answered."""
        self._looked_at = 0.0
        """When the last look began, on the monotonic clock."""
        self.unreadable = ""
        """Why the last look failed, if it did."""
        self._idle = False
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"versions-{base_path.name}", daemon=True)

    @property
    def base_path(self) -> Path:
        """Where it looks."""
        return self._target[0]

    @property
    def policy(self) -> VersionPolicy:
        """Which versions it serves."""
        return self._target[1]

    @property
    def looked(self) -> bool:
        """Whether it has looked since it was last told where: what was whole then is served, or given up."""
        return self._answered == self._asked

    @property
    def pending(self) -> set[int]:
        """Versions that may yet come to be served, as they are: their files are new, or a load is tried again."""
        loading = {each.version for each in self.statuses() if each.state is State.LOADING}
        return self._growing | loading

    @property
    def wanted(self) -> set[int]:
        """Those of the served versions that are of the base path and the policy of now."""
        base_path, policy = self._target
        here = {number for number, each in self.loaded.items() if each.folder and each.folder.parent == base_path}
        return set(policy.candidates(here))

    @property
    def latest(self) -> Loaded | None:
        """The highest version that is served."""
        return next(iter(self.loaded.values()), None)

    def start(self) -> None:
        """Begin to watch, in a thread of its own."""
        self._thread.start()

    def follow(self, base_path: Path, policy: VersionPolicy) -> None:
        """Look there, by this policy, from now on."""
        self._target = base_path, policy
        self._asked += 1
        self._wake.set()

    def stop(self) -> None:
        """End watching, wait until a load under way has ended, and unload everything."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        for version in self._records.waiting():
            self._records.forget(version)
        before, self.loaded = self.loaded, {}
        for loaded in before.values():
            self._retire(loaded)

    def remember(self, unloaded: Sequence[VersionStatus]) -> None:
        """Go on saying what became of versions before this watcher starts."""
        self._records.remember(unloaded)

    def statuses(self) -> list[VersionStatus]:
        """The status of each version that is there, or was served or given up before, the newest first."""
        return self._records.statuses()

    @property
    def failures(self) -> list[str]:
        """Why versions that are there could not be loaded, the newest first; or why none could be looked at."""
        there = {each.status.version for each in self._records.failures()}
        broken = [each.error for each in self.statuses() if each.error and each.version in there]
        return broken or [*filter(None, [self.unreadable])]

    def poll(self) -> None:
        """Look once at the base path and bring `loaded` up to what stands there."""
        base_path, policy = self._target  # both at once: another thread may tell it of others
        self._looked_at = time.monotonic()
        growing: set[int] = set()
        folders = self._folders(base_path)
        for gone in self._records.numbers() - folders.keys() - self.loaded.keys():
            self._records.forget(gone)
        candidates = policy.candidates(folders)
        self._tell_missing(set(policy.specific) - folders.keys())
        served: list[int] = []
        for position, version in enumerate(candidates):
            if self._stop.is_set() or len(served) == policy.most:
                candidates = candidates[:position]
                break
            if self._is_served(version, folders[version]) or (
                self._is_ready(version, folders[version], growing) and self._try(version, folders)
            ):
                served.append(version)
                self._unload_surplus(candidates, served, policy)
        self._records.leave(self._records.numbers() - set(candidates))  # newer ones are served, or others wanted
        self._growing = growing  # all at once: whoever waits for them looks at any moment
        if not self._stop.is_set() and (served or not candidates):
            self._unload(set(self.loaded) - set(served))
        if not candidates and not self._idle and not self._stop.is_set():
            self._log.warning("no version to serve, waiting for a numeric folder", base_path=str(base_path))
        self._idle = not candidates

    def _tell_missing(self, missing: set[int]) -> None:
        for version in sorted(missing - self._missing):
            self._log.warning(
                "version is to be served and has no folder", version=version, base_path=str(self.base_path)
            )
        self._missing = missing

    def _watch(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            asked = self._asked
            try:
                self.poll()
                self.unreadable = ""
            except Exception as error:  # a disk that is away, or memory: whatever it is, it may pass
                said = f"{type(error).__name__}: {error}"
                if said != self.unreadable:
                    unexpected = not isinstance(error, OSError)
                    self._log.warning("cannot read the model base path, trying again", error=said, exc_info=unexpected)
                self.unreadable, self._growing = said, set()
            self._answered = asked
            self._wake.wait(self._pause_s())

    def _pause_s(self) -> float | None:
        """Seconds until the next look; None: it looks no more until it is told to."""
        again = [failure.again_at for failure in self._records.failures()]
        if self._poll_s <= 0:
            waiting = bool(self._records.waiting() or self._growing) or min(again, default=math.inf) < math.inf
            return SETTLED_S if waiting or self.unreadable else None
        due = [at - time.monotonic() for at in again if at > self._looked_at]  # the others could not be tried
        return max(_LEAST_PAUSE_S, min([self._poll_s, *due, *[SETTLED_S for _ in self._growing]]))

    def _folders(self, base_path: Path) -> dict[int, Path]:
        try:
            numbered = version_folders(base_path)
        except FileNotFoundError:
            if self.loaded:
                raise  # a disk that is away for a moment is no wish to serve nothing
            return {}
        too_high = {version for version in numbered if version > MOST_VERSION}
        for version in too_high - self._too_high:
            self._log.warning("folder ignored, its number is too high for a version", folder=str(numbered[version]))
        self._too_high = too_high
        return {version: path for version, path in numbered.items() if version not in too_high}

    def _is_served(self, version: int, folder: Path) -> bool:
        """Whether the version was loaded from that folder; what came of another one of its number is forgotten."""
        if version not in self.loaded or self.loaded[version].folder != folder:
            return False
        record = self._records.of(version)
        record.failure = None
        if record.status is None or record.status.state is not State.AVAILABLE:  # another base path's
            self._records.set(version, State.AVAILABLE)
        return True

    def _is_ready(self, version: int, folder: Path, growing: set[int]) -> bool:
        """Whether the version is whole, and not known to be broken as it is; `growing` gets it if it may be so soon."""
        record = self._records.of(version)
        if record.status and record.status.state is State.UNLOADING:
            growing.add(version)
            return False
        try:
            print_now, touched_s = fingerprint(folder)
        except FileNotFoundError:
            return False  # it vanished, or is being moved
        except OSError as error:
            if record.status is None:
                self._log.warning("version found, and cannot be looked into", version=version, error=str(error))
                self._records.set(version, State.START)
            return False
        failure = record.failure
        if failure and failure.fingerprint == print_now and time.monotonic() < failure.again_at:
            return False
        unchanged = record.seen == print_now or time.time() - touched_s > SETTLED_S
        record.seen = print_now
        if not unchanged:
            growing.add(version)
        whole = unchanged and any(name.startswith(SAVED_MODEL_FILE) for name, _, _ in print_now)
        if not whole and record.status is None:
            self._log.info("version found, waiting until it is whole", version=version)
        if not whole and failure is None:
            self._records.set(version, State.START)
        return whole

    def _try(self, version: int, folders: dict[int, Path]) -> bool:
        """Load a version and serve it; whether it could be loaded."""
        self._records.set(version, State.LOADING)
        started = time.monotonic()
        try:
            engine = self._load(folders[version])
        except Exception as error:  # whatever a broken model raises, the server goes on
            self._give_up(version, error)
            return False
        loaded = Loaded(version, engine, time.monotonic() - started, folders[version])
        before = self.loaded.get(version)
        self.loaded = dict(sorted({**self.loaded, version: loaded}.items(), reverse=True))
        self._records.of(version).failure = None
        self._records.set(version, State.AVAILABLE)
        self._log.info("version available", version=version, load_s=round(loaded.load_s, 2))
        self._on_change()
        if before:  # the version of that number in another base path
            before.retire(lambda: None)
        return True

    def _give_up(self, version: int, error: Exception) -> None:
        message = f"{type(error).__name__}: {error}".strip()
        record = self._records.of(version)
        before = record.failure
        same = before is not None and before.fingerprint == record.seen
        attempts = before.attempts + 1 if before and same else 1
        again = self._passing(error) and attempts <= self._retries.most
        at = time.monotonic() + self._retries.interval_s if again else math.inf
        # TensorFlow's errors have a code, and so have those of `serving.failures`.
        code = getattr(error, "error_code", grpc.StatusCode.UNKNOWN.value[0])
        status = VersionStatus(version, State.END, message, code)
        record.failure = Failure(record.seen, attempts, at, status)
        if again:
            self._log.warning("version could not be loaded, trying again", version=version, error=message[:500])
        else:
            record.status = status
            self._log.warning("version is broken and is not served", version=version, error=message[:500])

    def _unload_surplus(self, candidates: list[int], served: list[int], policy: VersionPolicy) -> None:
        """Unload what is not among the newest even if all that is still to be loaded were broken.

        So there is no more than one version too many in memory, besides those in which requests still run.
        """
        if policy.most is None or self._stop.is_set():
            return
        others = [version for version in candidates if version in self.loaded and version not in served]
        self._unload(set(self.loaded) - {*served, *others[: policy.most - len(served)]})

    def _unload(self, versions: set[int]) -> None:
        gone = [self.loaded[version] for version in versions]
        if gone:
            self.loaded = {number: each for number, each in self.loaded.items() if number not in versions}
            self._on_change()
        for loaded in gone:
            self._retire(loaded)

    def _retire(self, loaded: Loaded) -> None:
        self._records.set(loaded.version, State.UNLOADING)

        def closed() -> None:
            record = self._records.of(loaded.version)
            failure = record.failure  # that of another base path
            if failure and failure.again_at < math.inf:
                self._records.set(loaded.version, State.LOADING)
            else:
                record.status = failure.status if failure else VersionStatus(loaded.version, State.END)
            self._log.info("version unloaded", version=loaded.version)

        loaded.retire(closed)
