"""How much each window counts: as its share of a clip or of a recording, and of a class where these count alike."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from earshot.labels import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from training.data.clips import Clip

ROUNDING = 1e-9
"""Share of all weights by which a sum of some may be off, so that a half of them is half."""


def clip_weights(clips: Sequence[Clip]) -> NDArray[np.float64]:
    """Weight of each window, [n], `clips` being the clip of each.

    A clip of a class weighs as much as another, however many windows it has, and the mean window of all these clips
    weighs 1. So does each window of background, which is heard as a stream and not as clips.
    """
    windows = Counter(clips)
    of_classes = np.array([clip.label != UNKNOWN for clip in clips], dtype=bool)
    labelled = sum(clip.label != UNKNOWN for clip in windows)
    each = np.array([1 / windows[clip] for clip in clips])
    return np.where(of_classes, each * np.count_nonzero(of_classes) / max(labelled, 1), 1.0)


def recording_weights(clips: Sequence[Clip]) -> NDArray[np.float64]:
    """Weight of each window in what a head learns, [n], `clips` being the clip of each.

    A recording weighs as much as another of its class, however many clips were cut from it: they sound alike. Each
    class weighs what its clips weigh, and so does background.
    """
    weights = clip_weights(clips)
    recordings, recording = np.unique([f"{clip.label}\n{clip.source}" for clip in clips], return_inverse=True)
    _, label = np.unique([clip.label for clip in clips], return_inverse=True)
    alike = balanced(weights, recording, len(recordings))
    back = np.bincount(label, weights) / np.bincount(label, alike)
    return np.where([clip.label == UNKNOWN for clip in clips], weights, alike * back[label])


def balanced(weights: NDArray[np.floating], classes: NDArray[np.integer], count: int) -> NDArray[np.float64]:
    """`weights` of examples, [n], scaled so that each class weighs as much as another, and all what they weighed.

    classes: of each example, [n], of `count` there are.
    """
    return np.asarray(weights * class_weights(weights, classes, count)[classes])


def class_weights(weights: NDArray[np.floating], classes: NDArray[np.integer], count: int) -> NDArray[np.float64]:
    """What `balanced` multiplies the weights of each class by, [count]; 0 of a class without an example."""
    each = np.bincount(classes, weights, minlength=count)
    share = each.sum() / max(np.count_nonzero(each), 1)
    return np.asarray(np.divide(share, each, out=np.zeros(count), where=each > 0))
