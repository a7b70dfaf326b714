"""Sounds of no class, from which a model learns what to call `unknown`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from earshot.labels import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from training.clips import Clip


def no_more_background(counts: Mapping[Clip, int]) -> dict[Clip, slice]:
    """Which windows of each clip, that has so many, are learnt from: of background about as many as of all classes.

    An hour of a quiet room would else be most of what there is. Each recording gives windows evenly over its time.
    """
    each: Counter[str] = Counter()
    for clip, count in counts.items():
        each[clip.label] += count
    most = each.total() - each[UNKNOWN]
    step = max(1, int(np.ceil(each[UNKNOWN] / most))) if most else 1
    return {clip: slice(None, None, step if clip.label == UNKNOWN else 1) for clip in counts}
