"""Spectrograms of clips as PNG pictures: exactly what a model is shown, but with the low frequencies at the bottom."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from serving.wholefile import whole_file
from training.data.clips import FOLD_SHOWN, PICTURE, RECORDING_SHOWN
from training.data.datasets import require_no_path
from training.data.hearing import each_heard, hear
from training.data.layouts import TAKE, recording_folders

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from training.data.clips import Clip


def write_pictures(clips: Sequence[Clip], out: Path) -> int:
    """Write OUT/CLASS/CLIP.png of the first three seconds of each of `clips`, and return how many there are.

    Red, green and blue are the channels of the spectrogram. Clips in a folder for their recording have one here too,
    those of one name and class are numbered, and each picture says of which recording and in which fold it is; a clip
    that cannot be read is named in the log. Raises DataError where a class cannot have a folder.
    """
    for label in {clip.label for clip in clips}:
        require_no_path(label)
    targets = dict(zip(clips, _targets(clips, out), strict=True))
    for folder in {target.parent for target in targets.values()}:
        folder.mkdir(parents=True, exist_ok=True)

    def write(clip: Clip) -> None:
        image = hear(clip.path).back_to_back[0]()
        said = PngInfo()
        said.add_text(RECORDING_SHOWN, json.dumps(clip.source))  # in ASCII, whatever the name of a file may be
        said.add_text(FOLD_SHOWN, json.dumps(clip.fold))
        with whole_file(targets[clip]) as file:
            Image.fromarray(image[::-1]).save(file, "png", pnginfo=said)

    return sum(1 for _ in each_heard(clips, write, [], "spectrograms", most=32))


def _targets(clips: Sequence[Clip], out: Path) -> list[Path]:
    """A file of its own for each clip, whose name and folder say of the same recording as the clip's own do."""
    taken: dict[Path, None] = {}
    for clip in clips:
        again = (f"{TAKE}{number}" if number > 1 else "" for number in itertools.count(1))
        folder = out.joinpath(clip.label, *recording_folders(clip))
        paths = (folder / f"{clip.path.stem}{end}{PICTURE}" for end in again)
        taken[next(path for path in paths if path not in taken)] = None
    return list(taken)
