"""Where the local stack keeps what outlives a run, and the locks that let several processes share it."""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_FLOCK = "hhqqi4x"
"""Linux's struct flock: type, whence, start, length, pid."""


def cache_folder() -> Path:
    """`$EARSHOT_CACHE`, or `earshot` in the user's cache folder: what can be fetched or computed again."""
    return _folder("EARSHOT_CACHE", "XDG_CACHE_HOME", ".cache")


def state_folder() -> Path:
    """`$EARSHOT_STATE`, or `earshot` in the user's state folder: what a background broker keeps."""
    return _folder("EARSHOT_STATE", "XDG_STATE_HOME", ".local/state")


def _folder(own: str, standard: str, fallback: str) -> Path:
    if given := os.environ.get(own):
        return Path(given).expanduser().absolute()
    base = os.environ.get(standard)
    return (Path(base) if base else Path.home() / fallback) / "earshot"


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path` alone, waiting for whoever has it; a process that dies lets go of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def lock_holder(path: Path) -> int | None:
    """Pid of the process that holds a POSIX lock on the file `path`, as a Kafka broker does on its data folder."""
    try:
        file = path.open("r+b")
    except FileNotFoundError:
        return None
    with file:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else int(pid)
