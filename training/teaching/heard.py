"""Which recordings weights have heard without their labels: figures of clips of these would be too kind.

Weights carry marks of what they were taught by, and a clip is known again by its recording's number on Freesound, or by
the content of its file.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from earshot.labels import UNKNOWN
from training.data.layouts import FREESOUND

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from training.data.clips import Clip

_DIGITS = 16
"""Hexadecimal ones of a digest that are kept: two of a million files are alike with a chance of 1 in 10^7."""

LEAST_UNHEARD = 10
"""Recordings of classes by which scores can be calibrated."""


def marks(clips: Iterable[Clip]) -> Iterator[str]:
    """What `clips` are known again by; a file that cannot be read has no mark."""
    for clip in clips:
        if clip.source.startswith(FREESOUND):
            yield clip.source
        else:
            try:
                yield f"sha256:{hashlib.sha256(clip.path.read_bytes()).hexdigest()[:_DIGITS]}"
            except OSError:
                continue


def heard_recordings(heard: frozenset[str], clips: Iterable[Clip]) -> frozenset[str]:
    """Recordings (`Clip.source`) of which one of `clips` is among what was `heard`."""
    return frozenset(clip.source for clip in clips if not heard.isdisjoint(marks([clip])))


def too_kind(heard: Collection[str], judged: Collection[Clip]) -> list[str]:
    """A note where some of the clips that are `judged` are of recordings (`Clip.source`) that were `heard`, or none."""
    known = sum(clip.source in heard for clip in judged)
    if not known:
        return []
    return [
        f"The weights have heard the recordings of {known} of these {len(judged)} clips, without their labels: "
        "figures are too kind."
    ]


def telling(
    clips: Iterable[Clip], sources: Sequence[str], heard: Sequence[Collection[str]]
) -> tuple[list[NDArray[np.bool_]], tuple[str, ...]]:
    """Which of rows from these `sources` tell how good a head on `clips` is, and a note where they tell it badly.

    heard: what each of several networks has heard without labels. It knows that better than what comes later, so what
    it has not heard tells, if that is enough: for each network a mask, [n].
    """
    recordings = {clip.source for clip in clips if clip.label != UNKNOWN}
    unheard = {source for source in recordings if not all(source in own for own in heard)}
    if len(unheard) >= LEAST_UNHEARD or unheard == recordings:
        return [~np.isin(sources, list(own)) for own in heard], ()
    note = (
        f"The weights have heard all but {len(unheard)} of the recordings by which scores are calibrated, so these are "
        f"too sure: teach weights without {LEAST_UNHEARD} recordings or more, for --calibrate-by."
    )
    return [np.ones(len(sources), dtype=bool) for _ in heard], (note,)
