"""Cross-validation by recordings: parts of the training clips that a model is trained without, to ask it about them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from earshot.labels import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from training.data.clips import Clip

Network = TypeVar("Network")

LEAST_LEARNT = 2
"""Recordings, and classes, that a model needs: with fewer there is nothing to tell apart."""
LEAST_CALIBRATING = 10
"""Recordings of classes that must be answered for: by fewer, temperature and thresholds would be chance."""

_ADVICE = (
    "Weights that were taught without ten recordings or more, some of each class, calibrate better: --calibrate-by."
)
_USELESS = "What --calibrate-by names has heard all but too few of the recordings, so all of them calibrate."


def parts_of(
    classes: NDArray[np.int64], sources: Sequence[str], most: int, seed: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """For each part of the recordings, numbers of the rows that are learnt from without it, and of its own.

    classes, sources: of each row its class and its recording. most: parts, each class dealt evenly into them; they are
    fewer where no class has as many recordings. Where a part has all recordings of a class, these stay with those that
    are learnt from: whoever is asked about a class has learnt it, and nobody is asked about the only recording of one.
    There are no parts where too few recordings would be left to train on.
    """
    recordings: dict[int, set[str]] = {}
    for number, source in zip(classes.tolist(), sources, strict=True):
        recordings.setdefault(number, set()).add(source)
    count = min(most, max(len(own) for own in recordings.values()))
    if count < 2:
        return []
    parts = []
    split = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # that a class has fewer clips than parts
        for learnt, kept_out in split.split(classes, classes, sources):
            needed = {sources[number] for number in kept_out[~np.isin(classes[kept_out], classes[learnt])]}
            own = np.isin(np.arange(len(classes)), kept_out) & ~np.isin(sources, list(needed))
            if own.any() and len(set(np.array(sources)[~own])) >= LEAST_LEARNT:
                parts.append((np.flatnonzero(~own), np.flatnonzero(own)))
    return parts


def calibrators(
    clips: Sequence[Clip],
    own: tuple[Network, Collection[str]],
    siblings: Sequence[tuple[Network, Collection[str]]],
) -> tuple[list[tuple[Network, NDArray[np.bool_]]], list[str]]:
    """Which networks calibrate, each with a mask of the rows that it is to be asked about, [rows]; and notes.

    clips: of each row. own, siblings: the network that is trained, and others that were taught like it, each with the
    recordings that it has heard without labels. See `calibrating_rows`; where these are too few, all rows of its own.
    """
    asked = siblings or [own]
    masks = calibrating_rows(clips, [heard for _, heard in asked])
    if masks is None:
        notes = [*too_sure(clips, own[1]), _USELESS if siblings else _ADVICE]
        return [(own[0], np.ones(len(clips), dtype=np.bool_))], notes
    return [(network, mask) for (network, _), mask in zip(asked, masks, strict=True)], []


def calibrating_rows(clips: Sequence[Clip], heard: Sequence[Collection[str]]) -> list[NDArray[np.bool_]] | None:
    """Of which rows each of several networks is to be asked, to calibrate by: a mask for each, [rows].

    clips: of each row. heard: recordings (`Clip.source`) that each network was taught by without labels. It knows those
    better than what comes later, so it is asked about others, and about background. None where these are too few, or
    not of all classes.
    """
    sources, background = [clip.source for clip in clips], np.array([clip.label == UNKNOWN for clip in clips])
    recordings = {(clip.source, clip.label) for clip in clips if clip.label != UNKNOWN}
    unheard = {(source, label) for source, label in recordings if not all(source in own for own in heard)}
    every_class = {label for _, label in unheard} == {label for _, label in recordings}
    if unheard != recordings and not (every_class and len(unheard) >= LEAST_CALIBRATING):
        return None
    return [background | ~np.isin(sources, list(own)) for own in heard]


def too_sure(clips: Sequence[Clip], heard: Collection[str]) -> list[str]:
    """A note where scores are calibrated by clips of recordings that the weights have `heard`, or none."""
    if not any(clip.source in heard for clip in clips if clip.label != UNKNOWN):
        return []
    return ["Scores are calibrated by recordings that the weights have heard, without labels: they are too sure."]
