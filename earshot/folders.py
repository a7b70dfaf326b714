"""Where Earshot keeps files on one machine, what outlives a run and what does not, and whether they can be written."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def cache_folder() -> Path:
    """`$EARSHOT_CACHE`, or `earshot` in the user's cache folder: what can be fetched or computed again."""
    return _folder("EARSHOT_CACHE", "XDG_CACHE_HOME", ".cache")


def state_folder() -> Path:
    """`$EARSHOT_STATE`, or `earshot` in the user's state folder: what a background broker keeps."""
    return _folder("EARSHOT_STATE", "XDG_STATE_HOME", ".local/state")


@contextmanager
def work_folder(prefix: str) -> Iterator[Path]:
    """A new folder for what is needed within, where temporary files go; gone afterwards, whenever Ctrl-C comes.

    tempfile's own makes the folder before it has noted to remove it.
    """
    folder = Path(tempfile.gettempdir()) / f"{prefix}{uuid.uuid4().hex}"
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class NotWritable(ValueError):
    """A file cannot be written where it is wanted; the message names it."""


def require_writable(file: Path) -> None:
    """Raise NotWritable where `file` could not be written; asked before long work rather than found out after it."""
    if file.is_dir() or not os.access(file.absolute().parent, os.W_OK):
        raise NotWritable(f"cannot write {file}; name a file in a folder that is there and that you may write to")


def _folder(own: str, standard: str, fallback: str) -> Path:
    if given := os.environ.get(own):
        return Path(given).expanduser().absolute()
    base = os.environ.get(standard)
    return (Path(base) if base else Path.home() / fallback) / "earshot"
