"""What clips that sound, or look, exactly alike have in common: digests of their files, each read once a process.

A file is taken for what it was as long as its size and its time of change stay.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from rich.progress import track

from training.data.ahead import ahead
from training.data.clips import BROKEN_PICTURE, is_picture
from training.data.hearing import THREADS

if TYPE_CHECKING:
    from collections.abc import Collection

    from training.data.clips import Clip

_Version = tuple[Path, int, int]
"""A file as it is: its path, size and time of change."""
_known: dict[_Version, bytes] = {}


def digests(clips: Collection[Clip]) -> dict[Clip, bytes]:
    """Of the file of each of `clips` that can be read, under a progress bar over what was not read before."""
    versions: dict[Clip, _Version] = {}
    for clip in clips:
        if version := _version(clip.path):
            versions[clip] = version
    unknown = sorted(set(versions.values()) - _known.keys())
    with ThreadPoolExecutor(THREADS) as pool:
        work = ahead(pool, unknown, lambda version: _digest(version[0]), THREADS)
        read = track(work, "files", total=len(unknown), disable=not unknown)
        _known.update({version: digest for version, digest in read if digest})
    return {clip: _known[version] for clip, version in versions.items() if version in _known}


def _version(path: Path) -> _Version | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return path, status.st_size, status.st_mtime_ns


def _digest(path: Path) -> bytes:
    """Of a picture its pixels, whatever text it has, else of the whole file; empty where it cannot be read."""
    try:
        if not is_picture(path):
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").digest()
        with Image.open(path) as picture:
            return hashlib.sha256(f"{picture.mode} {picture.size} ".encode() + picture.tobytes()).digest()
    except BROKEN_PICTURE:  # OSError is one
        return b""
