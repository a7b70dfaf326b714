"""Sounds of no class, from which a model learns what to call `unknown`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from earshot.labels import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from training.data.clips import Clip

GENERATED = "generated:"
"""Begins the name of a recording that is none: `training.data.noises` made it."""


def counted(clips: Iterable[Clip]) -> dict[str, int]:
    """How many `clips` are of a class, and how many `background_clips` of none, as reports and versions say it."""
    labels = [clip.label for clip in clips]
    background = labels.count(UNKNOWN)
    return {"clips": len(labels) - background, "background_clips": background}


def background_class(class_names: Sequence[str]) -> int | None:
    """Index of the class of sounds of no class, if there is one."""
    return class_names.index(UNKNOWN) if UNKNOWN in class_names else None


def is_generated(clip: Clip) -> bool:
    """Whether a clip of no class was made, not recorded."""
    return clip.source.startswith(GENERATED)


def no_more_background(counts: Mapping[Clip, int], seed: int) -> dict[Clip, list[int]]:
    """Which of each clip's windows, that has so many, are learnt from: of background no more than of all classes.

    An hour of a quiet room would else be most of what there is. All of the background is cut into as many parts, and
    one window is drawn from each: a fixed step would always take the same one of clips that have two.
    """
    total = sum(count for clip, count in counts.items() if clip.label == UNKNOWN)
    most = sum(counts.values()) - total
    taken = np.arange(total)
    if 0 < most < total:
        parts = np.arange(most + 1) * total // most
        taken = np.random.default_rng(seed).integers(parts[:-1], parts[1:])
    chosen: dict[Clip, list[int]] = {}
    start = 0
    for clip, count in counts.items():
        if clip.label == UNKNOWN:
            chosen[clip] = (taken[(taken >= start) & (taken < start + count)] - start).tolist()
            start += count
        else:
            chosen[clip] = list(range(count))
    return chosen
