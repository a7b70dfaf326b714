"""One labelled clip, and the sound in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from producers.recordings import RecordingSource, RecordingUnreadable

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


class ClipUnreadable(ValueError):
    """A clip is empty, silent or corrupt; the message names it."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One labelled sound file."""

    path: Path
    label: str
    fold: int
    source: str
    """Recording that it was cut from: all its clips are in one fold."""


def load_clip(path: Path) -> NDArray[np.int16]:
    """A clip as an agent hears it: int16 [n] at 16 kHz, channels averaged, n a whole number of frames.

    Raises ClipUnreadable where it is corrupt, empty or silent.
    """
    try:
        pcm = np.concatenate(list(RecordingSource(path, speed=0)))
    except RecordingUnreadable as error:
        raise ClipUnreadable(str(error)) from error
    if not pcm.any():
        raise ClipUnreadable(f"{path} is silent")
    return pcm
