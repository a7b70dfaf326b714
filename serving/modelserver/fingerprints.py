"""What the files of a folder are like: as long as that stays, nobody writes there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from pathlib import Path

Fingerprint = tuple[tuple[str, int, int], ...]
"""Path, size and time of change of each file."""


def fingerprint(folder: Path) -> tuple[Fingerprint, float]:
    """Path, size and time of every file, and when anything in there last changed (seconds since the epoch)."""
    entries = [(path, _stat(path)) for path in sorted(folder.rglob("*"))]
    # Copying tools set the time of modification back to the original's, but no tool can set the time of change.
    touched_s = max((status.st_ctime for _, status in entries), default=folder.stat().st_ctime)
    return tuple((str(path.relative_to(folder)), each.st_size, each.st_ctime_ns) for path, each in entries), touched_s


def _stat(path: Path) -> os.stat_result:
    """Of what a link leads to; of the link itself where that is nothing, as with an editor's lock, or itself."""
    try:
        return path.stat()
    except OSError:
        return path.lstat()
