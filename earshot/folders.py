"""Where Earshot keeps, on one machine, what outlives a run."""

from __future__ import annotations

import os
from pathlib import Path


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
