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

    An hour of a quiet room would else be most of what there is. Noises that were made are half of it, or what
    recordings leave over: of these there are as many as one likes, so they would crowd out what is known of a place.
    """
    recorded = {clip: count for clip, count in counts.items() if clip.label == UNKNOWN and not is_generated(clip)}
    made = {clip: count for clip, count in counts.items() if is_generated(clip)}
    all_recorded, all_made = sum(recorded.values()), sum(made.values())
    if not (most := sum(counts.values()) - all_recorded - all_made):
        most = all_recorded + all_made  # there is nothing else to learn from
    most_made = min(all_made, max(most // 2, most - all_recorded))
    rng = np.random.default_rng(seed)
    chosen = {clip: list(range(count)) for clip, count in counts.items()}
    return chosen | _spread(recorded, most - most_made, rng) | _spread(made, most_made, rng)


def _spread(counts: Mapping[Clip, int], most: int, rng: np.random.Generator) -> dict[Clip, list[int]]:
    """At most so many of the windows of `counts`, from all over them.

    All are cut into as many parts, and one window is drawn from each: a fixed step would always take the same one of
    clips that have two.
    """
    total = sum(counts.values())
    taken = np.arange(total)
    if most < total:
        parts = np.arange(most + 1) * total // max(most, 1)
        taken = rng.integers(parts[:-1], parts[1:])
    ends = np.cumsum(list(counts.values()))
    starts = ends - list(counts.values())
    return {
        clip: (taken[(taken >= start) & (taken < end)] - start).tolist()
        for clip, start, end in zip(counts, starts, ends, strict=True)
    }
