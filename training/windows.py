"""The windows of all clips as images, in a file that is read as it is needed: clips need not fit in memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

import numpy as np

from earshot.spectrogram import DEFAULT_PARAMS, SpectrogramParams
from training.hearing import each_heard, hear

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from training.clips import Clip


@dataclass(frozen=True, slots=True)
class Rows:
    """Where the windows of one clip are."""

    start: int
    heard: int
    """Back-to-back windows, which come first; the first is the clip's first three seconds."""
    count: int
    """All of them."""

    @property
    def judged(self) -> range:
        """Rows of the back-to-back windows."""
        return range(self.start, self.start + self.heard)

    @property
    def trained(self) -> range:
        """Rows of all windows."""
        return range(self.start, self.start + self.count)


@dataclass(frozen=True, slots=True)
class Windows:
    """Images of all windows, and whose they are."""

    images: NDArray[np.uint8]
    """[windows, mels, frames, channels], on disk."""
    rows: dict[Clip, Rows]
    unreadable: tuple[str, ...]
    """A line for each clip that holds no sound."""
    digest: str
    """Of all images."""


def write_windows(clips: Sequence[Clip], folder: Path, params: SpectrogramParams = DEFAULT_PARAMS) -> Windows:
    """Cut all `clips`; one that cannot be read is named in the log and left out.

    The images are in a file without a name on the disk of `folder`: it is gone with the process, however that ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[Clip, Rows] = {}
    unreadable: list[str] = []
    total = 0
    digest = hashlib.sha256()

    def images_of(clip: Clip) -> tuple[NDArray[np.uint8], int]:
        one = hear(clip.path, params)
        windows = (*one.back_to_back, one.pre_rolled, *one.between)
        return np.stack([image() for image in windows]), len(one.back_to_back)

    shape = (params.mels, params.frames(), params.channels)
    with TemporaryFile(dir=folder) as file:
        for clip, (images, heard) in each_heard(clips, images_of, unreadable, "spectrograms"):
            file.write(images.data)
            digest.update(images.data)
            rows[clip] = Rows(total, heard, len(images))
            total += len(images)
        file.flush()
        on_disk = np.memmap(file, np.uint8, "r", shape=(total, *shape)) if total else np.zeros((0, *shape), np.uint8)
    return Windows(on_disk, rows, tuple(unreadable), digest.hexdigest())
