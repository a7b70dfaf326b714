"""How much a clip counts where classes are to count alike, however many clips each has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def class_weights(classes: NDArray[np.integer], count: int) -> NDArray[np.float32]:
    """Weight of each of `count` classes, float32 [count], for examples of `classes` [n].

    All weights of a class add up to the same, those of all examples to n. A class of no example has 0.
    """
    each = np.bincount(classes, minlength=count)
    present = np.count_nonzero(each)
    return np.where(each > 0, len(classes) / (present * np.maximum(each, 1)), 0).astype(np.float32)
