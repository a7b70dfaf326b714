"""Cross-validation by recordings: parts of the training clips that a model is trained without, to ask it about them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LEAST_LEARNT = 2
"""Recordings, and classes, that a model needs: with fewer there is nothing to tell apart."""


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
