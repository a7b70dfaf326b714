"""The windows of all clips as images, in a file that is read as it is needed: clips need not fit in memory.

Of each clip there are the windows that a live segment may be: back to back from its beginning, as the agent cuts
continuous sound; the first after the agent's pre-roll; and for training further ones in between.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

import numpy as np
from rich.progress import track

from earshot.audio import SAMPLE_RATE_HZ, SEGMENT_SAMPLES, fit_segment, windows
from earshot.logs import get_log
from earshot.spectrogram import DEFAULT_PARAMS, SpectrogramParams, spectrogram
from training.ahead import ahead
from training.clips import Clip, ClipUnreadable, load_clip

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

log = get_log(__name__)

PRE_ROLL_S = 0.5
"""Silence before the sound in one window: a live segment begins with the agent's pre-roll."""
STEP_S = 0.5
"""Between the starts of the further windows, which a clip longer than one has."""


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


def pre_rolled(pcm: NDArray[np.int16]) -> NDArray[np.int16]:
    """The first window of a clip as a live segment would have it, int16 [48000]."""
    silence = np.zeros(round(PRE_ROLL_S * SAMPLE_RATE_HZ), dtype=np.int16)
    return fit_segment(np.concatenate([silence, pcm]))


def cut(pcm: NDArray[np.int16]) -> tuple[list[NDArray[np.int16]], int]:
    """The windows of a clip, int16 [48000] each, and how many of them, which come first, are back to back."""
    heard = list(windows(pcm))
    step = round(STEP_S * SAMPLE_RATE_HZ)
    between = [
        pcm[start : start + SEGMENT_SAMPLES]
        for start in range(step, pcm.size - SEGMENT_SAMPLES + 1, step)
        if start % SEGMENT_SAMPLES
    ]
    return [*heard, pre_rolled(pcm), *between], len(heard)


def write_windows(clips: Sequence[Clip], folder: Path, params: SpectrogramParams = DEFAULT_PARAMS) -> Windows:
    """Cut all `clips`; one that cannot be read is named in the log and left out.

    The images are in a file without a name on the disk of `folder`: it is gone with the process, however that ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[Clip, Rows] = {}
    unreadable: list[str] = []
    total = 0
    digest = hashlib.sha256()

    def made(clip: Clip) -> tuple[NDArray[np.uint8], int] | ClipUnreadable:
        try:
            cuts, heard = cut(load_clip(clip.path))
        except ClipUnreadable as error:
            return error
        return np.stack([spectrogram(window, params) for window in cuts]), heard

    shape = (params.mels, params.frames(), params.channels)
    with ThreadPoolExecutor(max_workers=2) as pool, TemporaryFile(dir=folder) as file:
        for clip, one in track(ahead(pool, clips, made), "spectrograms", total=len(clips)):
            if isinstance(one, ClipUnreadable):
                log.warning("clip skipped", reason=str(one))
                unreadable.append(str(one))
                continue
            images, heard = one
            file.write(images.tobytes())
            digest.update(images.tobytes())
            rows[clip] = Rows(total, heard, len(images))
            total += len(images)
        file.flush()
        on_disk = np.memmap(file, np.uint8, "r", shape=(total, *shape)) if total else np.zeros((0, *shape), np.uint8)
    return Windows(on_disk, rows, tuple(unreadable), digest.hexdigest())
