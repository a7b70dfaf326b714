"""Sound without labels: pieces of whatever recordings there are, in a file that is read as it is needed."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from itertools import islice
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING

import numpy as np

from earshot.audio import SAMPLE_BYTES, SAMPLE_RATE_HZ
from producers.frames import FRAME_S
from producers.recordings import RecordingSource, RecordingUnreadable
from training.data.clips import ClipUnreadable
from training.data.hearing import each_heard
from training.data.layouts import FREESOUND

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from training.data.clips import Clip

PIECE_S = 10.0
"""Seconds of a piece at the most."""
HEARD_S = 300.0
"""Seconds of a recording that pieces are cut from; of more, many formats would have to be decoded to the end."""
MOST_EACH = 8
"""Pieces of one recording, so that a long one does not outweigh a hundred others."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """Pieces of sound by their number."""

    file: IO[bytes]
    starts: NDArray[np.int64]
    """First sample of each piece in the file, and where the last one ends."""
    kinds: NDArray[np.int64]
    """Of which of the given kinds of recordings each piece is, counted from 0."""
    recordings: NDArray[np.int64]
    """Of which recording each piece is, counted from 0."""
    digest: str
    """Of all the sound."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, number: int) -> NDArray[np.int16]:
        """One piece, int16 [samples]."""
        start, end = (int(each) * SAMPLE_BYTES for each in self.starts[number : number + 2])
        return np.frombuffer(os.pread(self.file.fileno(), end - start, start), dtype=np.int16)

    @property
    def hours(self) -> float:
        """How long they all are."""
        return float(self.starts[-1]) / SAMPLE_RATE_HZ / 3600


def cut_pieces(kinds: Sequence[Sequence[Clip]], folder: Path) -> tuple[Pieces, list[str]]:
    """Pieces of the recordings of all `kinds`, and a line for each that holds no sound.

    What is in two of them is taken once. They are in a file without a name on the disk of `folder`: it is gone with the
    process, however that ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = TemporaryFile(dir=folder)  # noqa: SIM115 - the pieces read from it
    unreadable: list[str] = []
    starts, seen, kind_of, recording_of = [0], set(), [], []
    numbers: dict[str, int] = {}
    digest = hashlib.sha256()
    kind_of_clip = {clip: number for number, kind in enumerate(kinds) for clip in kind}
    for clip, pieces in each_heard(list(kind_of_clip), lambda clip: _pieces_of(clip.path), unreadable, "sounds"):
        for piece in pieces:
            own = hashlib.sha256(piece.tobytes()).digest()
            if own not in seen:
                seen.add(own)
                digest.update(own + str(kind_of_clip[clip]).encode())
                file.write(piece.tobytes())
                starts.append(starts[-1] + piece.size)
                kind_of.append(kind_of_clip[clip])
                recording_of.append(numbers.setdefault(_recording(clip), len(numbers)))
    file.flush()
    numbers_of = [np.array(each, dtype=np.int64) for each in (starts, kind_of, recording_of)]
    return Pieces(file, numbers_of[0], numbers_of[1], numbers_of[2], digest.hexdigest()), unreadable


def _recording(clip: Clip) -> str:
    """What tells a clip's recording from others: its number on Freesound, else its file.

    A folder of background counts as one recording elsewhere; here that may be all that there is to learn from.
    """
    return clip.source if clip.source.startswith(FREESOUND) else str(clip.path)


def _pieces_of(path: Path) -> list[NDArray[np.int16]]:
    """Pieces that lie evenly over a recording; those that are silent are left out."""
    try:
        pcm = np.concatenate(list(islice(RecordingSource(path, speed=0), round(HEARD_S / FRAME_S))))
    except RecordingUnreadable as error:
        raise ClipUnreadable(str(error)) from error
    size = round(PIECE_S * SAMPLE_RATE_HZ)
    starts = range(0, pcm.size, size)
    step = max(1.0, len(starts) / MOST_EACH)
    chosen = [starts[int(number * step)] for number in range(min(len(starts), MOST_EACH))]
    pieces = [pcm[start : start + size] for start in chosen if pcm[start : start + size].any()]
    if not pieces:
        raise ClipUnreadable(f"{path} is silent")
    return pieces
