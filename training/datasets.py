"""Labelled clips and their folds: UrbanSound8K, or a folder for each class."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from producers.recordings import SUFFIXES, RecordingSource, RecordingUnreadable

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

OWN_FOLDS = 5
"""Folds that a data set without folds of its own is dealt into."""


class DataError(ValueError):
    """The data set cannot be trained on; the message says what is missing."""


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


def find_clips(folder: Path) -> list[Clip]:
    """Every clip below `folder`, in order; raises DataError where there is none, or a source is in two folds."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; --data names UrbanSound8K's, or one with a folder for each class")
    metadata = folder / "metadata" / "UrbanSound8K.csv"
    try:
        clips = _urbansound8k(folder, metadata) if metadata.is_file() else _folders(folder)
    except (KeyError, ValueError) as error:
        raise DataError(f"{metadata} is not UrbanSound8K's table ({error!r}); fetch it again") from error
    if len({clip.label for clip in clips}) < 2:
        raise DataError(f"{folder} holds {len(clips)} clips; training needs clips of two classes at least")
    folds: dict[str, int] = {}
    for clip in clips:
        if folds.setdefault(clip.source, clip.fold) != clip.fold:
            raise DataError(f"recording {clip.source} is in folds {folds[clip.source]} and {clip.fold}: it would leak")
    return clips


def _urbansound8k(folder: Path, metadata: Path) -> list[Clip]:
    """Clips of the official table that are there; a table may name .wav files where the clips are .flac."""
    clips = []
    with metadata.open(newline="") as table:
        for row in csv.DictReader(table):
            named = folder / "audio" / f"fold{row['fold']}" / row["slice_file_name"]
            for path in (named, named.with_suffix(".flac"), named.with_suffix(".wav")):
                if path.is_file():
                    clips.append(Clip(path, row["class"], int(row["fold"]), row["fsID"]))
                    break
    return clips


def _folders(folder: Path) -> list[Clip]:
    paths = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in SUFFIXES)
    sources = [path.relative_to(folder).as_posix() for path in paths]
    return [Clip(path, path.parent.name, _own_fold(name), name) for path, name in zip(paths, sources, strict=True)]


def _own_fold(name: str) -> int:
    return 1 + hashlib.sha256(name.encode()).digest()[0] % OWN_FOLDS


def chosen_folds(text: str, clips: list[Clip]) -> list[int]:
    """The folds that a setting names: `all` of those that `clips` are in, `none`, or some, as `1,2`; or DataError."""
    present = sorted({clip.fold for clip in clips})
    if text == "all":
        return present
    if text in {"", "none"}:
        return []
    try:
        folds = [int(part) for part in text.split(",")]
    except ValueError:
        raise DataError(f"folds are numbers separated by commas, not {text!r}") from None
    absent = [fold for fold in folds if fold not in present]
    if absent:
        raise DataError(f"there is no clip in fold {absent[0]}; the folds here are {present}")
    return folds


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
