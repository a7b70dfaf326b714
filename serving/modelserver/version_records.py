"""What a watcher knows of each version: where it stands, what its files were like, and why it could not be loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from serving.modelserver.version_status import State, VersionStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from serving.modelserver.fingerprints import Fingerprint

_WAITING = {State.START, State.LOADING}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a version is not loaded, and when it may be tried again."""

    fingerprint: Fingerprint | None
    """Its files then."""
    attempts: int
    again_at: float
    """Time on the monotonic clock; infinite: when its files have changed."""
    status: VersionStatus
    """What is said of it when it is not tried any more."""


@dataclass(slots=True)
class Record:
    """What is known of one version."""

    status: VersionStatus | None = None
    """What is said of it; None: nothing yet."""
    seen: Fingerprint | None = None
    """Its files in the last look."""
    failure: Failure | None = None

    @property
    def waits(self) -> bool:
        """Whether it may yet come to be served."""
        return self.status is not None and self.status.state in _WAITING


class VersionRecords:
    """A record of each version that is there, or was served or given up before.

    The watcher's thread alone makes and removes them. Others read them, and say of a version that is being unloaded,
    whose record stays meanwhile, that it ended.
    """

    def __init__(self) -> None:
        self._records: dict[int, Record] = {}

    def of(self, version: int) -> Record:
        """Its record, a new one where nothing is known."""
        return self._records.setdefault(version, Record())

    def numbers(self) -> set[int]:
        """The versions that were looked at, or of which something is said."""
        return set(self._records)

    def waiting(self) -> list[int]:
        """The versions that may yet come to be served."""
        return [version for version, record in self._records.copy().items() if record.waits]

    def set(self, version: int, state: State) -> None:
        """Say where a version stands."""
        self.of(version).status = VersionStatus(version, state)

    def remember(self, said: Sequence[VersionStatus]) -> None:
        """Go on saying this."""
        self._records = {each.version: Record(each) for each in said}

    def forget(self, version: int) -> None:
        """Begin anew with a version should it be there again; that it was served, or failed, is still said of it."""
        record = self._records[version]
        record.seen = record.failure = None
        if record.waits or record.status is None:
            del self._records[version]

    def leave(self, versions: Iterable[int]) -> None:
        """Wait no longer until these are whole, or may be tried again; what failed is said of them then."""
        for version in versions:
            record = self._records[version]
            if record.waits:
                failure = record.failure
                self.forget(version)
                if failure:
                    self._records[version] = Record(failure.status)

    def statuses(self) -> list[VersionStatus]:
        """What is said, the newest version first."""
        said = [status for record in self._records.copy().values() if (status := record.status)]
        return sorted(said, key=lambda status: -status.version)

    def failures(self) -> list[Failure]:
        """Why versions that are there could not be loaded."""
        return [failure for record in self._records.copy().values() if (failure := record.failure)]
