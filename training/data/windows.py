"""The windows of all clips as images, in a file that is read as it is needed: clips need not fit in memory."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING

import numpy as np

from earshot.labels import UNKNOWN
from earshot.spectrogram import DEFAULT_PARAMS, SpectrogramParams
from training.data.hearing import Roles, each_heard, hear

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from training.data.clips import Clip


@dataclass(frozen=True, slots=True)
class Rows:
    """Where the windows of one clip are."""

    start: int
    roles: Roles

    @property
    def heard(self) -> range:
        """Rows of the windows back to back."""
        return range(self.start, self.start + self.roles.heard)

    @property
    def trained(self) -> tuple[int, ...]:
        """Rows of those that are learnt from."""
        return tuple(self.start + number for number in self.roles.trained)


class StoredImages:
    """Images in a file, read whenever they are asked for.

    A mapped file would do as well, but all that was ever read of it would count as the process's memory.
    """

    def __init__(self, file: IO[bytes], count: int, shape: tuple[int, ...]) -> None:
        """`count` images uint8 of `shape` are in `file`, one after the other; it stays open as long as they live."""
        self._file, self._count, self._shape = file, count, shape

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, rows: Sequence[int] | NDArray[np.integer]) -> NDArray[np.uint8]:
        """The images of these rows, [rows, mels, frames, channels]."""
        size = math.prod(self._shape)
        read = b"".join(os.pread(self._file.fileno(), size, int(row) * size) for row in rows)
        return np.frombuffer(read, np.uint8).reshape(len(rows), *self._shape)


@dataclass(frozen=True, slots=True)
class Windows:
    """Images of all windows, and whose they are."""

    images: StoredImages
    """[windows, mels, frames, channels]"""
    rows: dict[Clip, Rows]
    unreadable: tuple[str, ...]
    """A line for each clip that holds no sound."""
    digest: str
    """Of all images."""


def write_windows(clips: Sequence[Clip], folder: Path, params: SpectrogramParams = DEFAULT_PARAMS) -> Windows:
    """Cut all `clips`, background into fewer windows; one that cannot be read is named in the log and left out.

    The images are in a file without a name on the disk of `folder`: it is gone with the process, however that ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[Clip, Rows] = {}
    unreadable: list[str] = []
    total = 0
    digest = hashlib.sha256()

    def images_of(clip: Clip) -> tuple[NDArray[np.uint8], Roles]:
        return hear(clip.path, params).images(between=clip.label != UNKNOWN)  # else an hour of it would be 0.8 GB

    shape = (params.mels, params.frames(), params.channels)
    file = TemporaryFile(dir=folder)  # noqa: SIM115 - the images read from it
    for clip, (images, roles) in each_heard(clips, images_of, unreadable, "spectrograms"):
        file.write(images.data)
        digest.update(images.data)
        rows[clip] = Rows(total, roles)
        total += len(images)
    file.flush()
    return Windows(StoredImages(file, total, shape), rows, tuple(unreadable), digest.hexdigest())
