"""One labelled clip, and the sound in it, or the picture of its spectrogram."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from producers.recordings import RecordingSource, RecordingUnreadable

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from earshot.spectrogram import SpectrogramParams

PICTURE = ".png"
"""Suffix of a clip that is a picture of its spectrogram."""
RECORDING_SHOWN = "earshot:recording"
"""Text within a picture: the recording that it shows a clip of, as JSON."""
FOLD_SHOWN = "earshot:fold"
"""Text within a picture: the fold that this clip is in, as JSON."""
BROKEN_PICTURE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises of files that are no pictures, or would be too large."""


class ClipUnreadable(ValueError):
    """A clip is empty, silent, corrupt or no spectrogram; the message names it."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One labelled sound file."""

    path: Path
    label: str
    fold: int
    source: str
    """Recording that it was cut from: all its clips are in one fold."""


def is_picture(path: Path) -> bool:
    """Whether a clip is a picture of its spectrogram, and no recording."""
    return path.suffix.lower() == PICTURE


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


def recording_shown(path: Path) -> tuple[str, int | None]:
    """The recording that a clip says it shows, and the fold of it, if it is a picture.

    Empty and None where it does not say, as one that another program wrote anew.
    """
    if not is_picture(path):
        return "", None
    try:
        with Image.open(path) as picture:
            said, fold = (_value(picture.info.get(name)) for name in (RECORDING_SHOWN, FOLD_SHOWN))
    except BROKEN_PICTURE:  # whoever reads the picture itself says that it is broken
        return "", None
    return said if isinstance(said, str) else "", fold if type(fold) is int and fold > 0 else None


def _value(text: Any) -> Any:
    """What a JSON text is; None where it is none."""
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None


def load_picture(path: Path, params: SpectrogramParams) -> NDArray[np.uint8]:
    """A spectrogram that `training.spectrograms` wrote: uint8 [mels, frames, channels], the lowest band first.

    Raises ClipUnreadable where it is corrupt, of another size or black.
    """
    try:
        with Image.open(path) as picture:
            image = np.asarray(picture)
    except BROKEN_PICTURE as error:
        raise ClipUnreadable(f"{path} is no picture ({error})") from error
    shape = (params.mels, params.frames(), params.channels)
    if image.shape != shape or image.dtype != np.uint8:
        raise ClipUnreadable(f"{path} is a picture of {image.shape}, not of {shape} as `training.spectrograms` writes")
    if not image.any():
        raise ClipUnreadable(f"{path} is silent")
    return image[::-1]
