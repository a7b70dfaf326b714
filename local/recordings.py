"""Finds the recordings to replay and, where their names say it, the class of sound that each holds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from producers.recordings import SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

URBANSOUND8K_CLASSES = (
    "air_conditioner",
    "car_horn",
    "children_playing",
    "dog_bark",
    "drilling",
    "engine_idling",
    "gun_shot",
    "jackhammer",
    "siren",
    "street_music",
)
"""In the order of the data set's class ids."""

_URBANSOUND8K_NAME = re.compile(r"\d+-(?P<class_id>[0-9])-\d+-\d+")


class NoRecordings(ValueError):
    """There is nothing to replay; the message says where it was looked for."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A sound file to replay."""

    path: Path
    truth: str | None
    """Class of sound that it holds, where known."""


def find_recordings(folder: Path) -> list[Recording]:
    """Every recording below `folder`, by name; raises NoRecordings where there is none.

    The truth is the class id in an UrbanSound8K file name, or the class that the file is named after, or the folder
    that it is in below `folder`, in this order.
    """
    if not folder.is_dir():
        raise NoRecordings(
            f"{folder} is not a folder; name one that holds {_listed(SUFFIXES)} files with --input (the samples are in "
            "the project's folder, and are not installed with it)"
        )
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise NoRecordings(f"{folder} holds no {_listed(SUFFIXES)} file")
    return [Recording(path, truth_of(path, folder)) for path in paths]


def truth_of(path: Path, root: Path) -> str | None:
    """The class of sound in the recording `path` below `root`, or None where its name does not say."""
    name = _URBANSOUND8K_NAME.fullmatch(path.stem)
    if name:
        return URBANSOUND8K_CLASSES[int(name["class_id"])]
    if path.stem in URBANSOUND8K_CLASSES:
        return path.stem
    return path.parent.name if path.parent != root else None


def shared_out(recordings: list[Recording], devices: int) -> list[list[Recording]]:
    """What each of `devices` devices plays: all recordings dealt out in turn, or one again where there are too few."""
    dealt = [recordings[device::devices] for device in range(devices)]
    return [share or [recordings[device % len(recordings)]] for device, share in enumerate(dealt)]


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))
