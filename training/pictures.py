"""Spectrograms of clips as PNG pictures: exactly what a model is shown, but with the low frequencies at the bottom."""

from __future__ import annotations

import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from PIL import Image
from rich.progress import track

from earshot.audio import fit_segment
from earshot.logs import get_log
from earshot.spectrogram import spectrogram
from serving.wholefile import whole_file
from training.ahead import ahead
from training.clips import ClipUnreadable, load_clip

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from training.clips import Clip

log = get_log(__name__)


def write_pictures(clips: Sequence[Clip], out: Path) -> int:
    """Write OUT/CLASS/CLIP.png of the first three seconds of each of `clips`, and return how many there are.

    Red, green and blue are the channels of the spectrogram. Clips of one name and class are numbered; a clip that
    cannot be read is named in the log.
    """
    for label in {clip.label for clip in clips}:
        (out / label).mkdir(parents=True, exist_ok=True)
    targets = dict(zip(clips, _targets(clips, out), strict=True))

    def write(clip: Clip) -> ClipUnreadable | None:
        try:
            image = spectrogram(fit_segment(load_clip(clip.path)))
        except ClipUnreadable as error:
            return error
        with whole_file(targets[clip]) as file:
            Image.fromarray(image[::-1]).save(file, "png")
        return None

    written = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _, error in track(ahead(pool, clips, write, most=32), "spectrograms", total=len(clips)):
            if error:
                log.warning("clip skipped", reason=str(error))
            else:
                written += 1
    return written


def _targets(clips: Sequence[Clip], out: Path) -> list[Path]:
    """A file of its own for each clip."""
    taken: dict[Path, None] = {}
    for clip in clips:
        again = (f"-{number}" if number > 1 else "" for number in itertools.count(1))
        paths = (out / clip.label / f"{clip.path.stem}{end}.png" for end in again)
        taken[next(path for path in paths if path not in taken)] = None
    return list(taken)
