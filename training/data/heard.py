"""Which recordings weights have heard without their labels: figures of clips of these would be too kind.

Weights carry marks of what they were taught by. A clip is known again by its recording's number on Freesound, or by the
content of its file; a picture of it, or the same sound in another file format, is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from earshot.labels import UNKNOWN
from training.data.contents import digests
from training.data.layouts import FREESOUND

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from training.data.clips import Clip

_DIGITS = 16
"""Hexadecimal ones of a digest that are kept: two of a million files are alike with a chance of 1 in 10^7."""


def marks(clips: Iterable[Clip]) -> list[str]:
    """What each of `clips` is known again by; a file that cannot be read has no mark."""
    return list(_marks(list(clips)).values())


def _marks(clips: list[Clip]) -> dict[Clip, str]:
    contents = digests([clip for clip in clips if not clip.source.startswith(FREESOUND)])
    known = {clip: clip.source for clip in clips if clip.source.startswith(FREESOUND)}
    return known | {clip: f"sha256:{content.hex()[:_DIGITS]}" for clip, content in contents.items()}


def heard_recordings(heard: frozenset[str] | None, clips: Iterable[Clip]) -> frozenset[str]:
    """Recordings (`Clip.source`) of which one of `clips` is among the marks of what was `heard`, so far as they say."""
    if not heard:
        return frozenset()
    return frozenset(clip.source for clip, mark in _marks(list(clips)).items() if mark in heard)


def too_kind(heard: Collection[str], judged: Collection[Clip]) -> list[str]:
    """Notes where clips that are `judged`, or background, are of recordings (`Clip.source`) that were `heard`."""
    notes = []
    if known := count_heard(heard, judged):
        of_classes = sum(clip.label != UNKNOWN for clip in judged)
        notes.append(
            f"The weights have heard the recordings of {known} of these {of_classes} clips, without their labels: "
            "figures are too kind."
        )
    background = {clip.source for clip in judged if clip.label == UNKNOWN}
    if known := len(background & set(heard)):
        notes.append(
            f"The weights have heard {known} of these {len(background)} recordings of background: false accepts are "
            "too few."
        )
    return notes


def count_heard(heard: Collection[str], judged: Iterable[Clip]) -> int:
    """How many clips that are `judged` are of recordings that were `heard`; background does not count in figures."""
    return sum(clip.source in heard for clip in judged if clip.label != UNKNOWN)
