"""Spectrograms of clips as PNG pictures: exactly what a model is shown, but with the low frequencies at the bottom."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from PIL import Image

from serving.wholefile import whole_file
from training.clips import PICTURE
from training.hearing import each_heard, hear

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from training.clips import Clip


def write_pictures(clips: Sequence[Clip], out: Path) -> int:
    """Write OUT/CLASS/CLIP.png of the first three seconds of each of `clips`, and return how many there are.

    Red, green and blue are the channels of the spectrogram. Clips of one name and class are numbered; a clip that
    cannot be read is named in the log.
    """
    for label in {clip.label for clip in clips}:
        (out / label).mkdir(parents=True, exist_ok=True)
    targets = dict(zip(clips, _targets(clips, out), strict=True))

    def write(clip: Clip) -> None:
        image = hear(clip.path).back_to_back[0]()
        with whole_file(targets[clip]) as file:
            Image.fromarray(image[::-1]).save(file, "png")

    return sum(1 for _ in each_heard(clips, write, [], "spectrograms", most=32))


def _targets(clips: Sequence[Clip], out: Path) -> list[Path]:
    """A file of its own for each clip."""
    taken: dict[Path, None] = {}
    for clip in clips:
        again = (f"-{number}" if number > 1 else "" for number in itertools.count(1))
        paths = (out / clip.label / f"{clip.path.stem}{end}{PICTURE}" for end in again)
        taken[next(path for path in paths if path not in taken)] = None
    return list(taken)
