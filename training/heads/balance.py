"""How much each window counts: as its share of a clip, and of a class where classes are to count alike."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from earshot.labels import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from training.data.clips import Clip


def clip_weights(clips: Sequence[Clip]) -> NDArray[np.float32]:
    """Weight of each window, float32 [n], `clips` being the clip of each.

    Clips of classes weigh the same, however long they are, and their windows together as many as they are. Of
    background, which is heard as a stream and not as clips, each window weighs 1.
    """
    windows = Counter(clips)
    of_classes = np.array([clip.label != UNKNOWN for clip in clips], dtype=bool)
    weights = np.array([1 / windows[clip] for clip in clips])
    weights[of_classes] *= np.count_nonzero(of_classes) / len({clip for clip in clips if clip.label != UNKNOWN} or "-")
    weights[~of_classes] = 1
    return weights.astype(np.float32)


def class_weights(
    classes: NDArray[np.integer], count: int, weights: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """What the weight of an example of each of `count` classes is multiplied with, float32 [count].

    classes: of each example, [n]. weights: of each, [n]; None are 1. Then all of a class weigh the same, and all
    examples what they weighed before. A class of no example has 0.
    """
    each = np.bincount(classes, weights, minlength=count)
    present = np.count_nonzero(each)
    return np.where(each > 0, each.sum() / (present * np.where(each > 0, each, 1)), 0).astype(np.float32)
