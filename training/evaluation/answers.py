"""What a model answered for clips whose truth is known: all that the figures of a report are made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np

from earshot.labels import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from training.data.clips import Clip

UNKNOWN_TRUTH = -1
"""Index of a clip's truth that is not one of the model's classes."""


@dataclass(frozen=True)
class Answers:
    """Scores of n clips, in the order of `class_names`; a clip's label is its truth."""

    class_names: tuple[str, ...]
    clips: tuple[Clip, ...]
    segment: NDArray[np.float32]
    """Scores of each clip's first segment, [n, classes]: what a label of Earshot is made from."""
    whole: NDArray[np.float32]
    """Mean scores over all of a clip's back-to-back windows, [n, classes]."""
    thresholds: NDArray[np.float32] = field(default_factory=lambda: np.zeros(1, np.float32))
    """Score below which a label is `unknown`, 0 for never: [classes], [1] where it is the same for all of them, or
    [n, classes] where clips were judged by models of different thresholds."""

    def __post_init__(self) -> None:
        shape = (len(self.clips), len(self.class_names))
        if self.segment.shape != shape or self.whole.shape != shape:
            raise ValueError(f"{shape} clips and classes have scores {self.segment.shape} and {self.whole.shape}")
        np.broadcast_shapes(self.thresholds.shape, shape)

    @classmethod
    def of(
        cls,
        scores: Mapping[Clip, NDArray[np.float32]],
        class_names: Sequence[str],
        thresholds: Sequence[float] | NDArray[np.float32] = (0.0,),
    ) -> Self:
        """The answers of a model from the `scores` of each clip's back-to-back windows, [windows, classes].

        Of background each window is a clip: all of it is to be heard rightly, and not only how it begins.
        """
        every = [
            (clip, part)
            for clip, one in scores.items()
            for part in (np.split(one, len(one)) if clip.label == UNKNOWN else [one])
        ]
        each = [one for _, one in every]
        none = np.zeros((0, len(class_names)), np.float32)
        return cls(
            tuple(class_names),
            tuple(clip for clip, _ in every),
            np.stack([one[0] for one in each]) if each else none,
            np.stack([one.mean(axis=0) for one in each]) if each else none,
            np.array(thresholds, np.float32),
        )

    @classmethod
    def pooled(cls, parts: Sequence[Answers]) -> Self:
        """The answers of several folds as one; each fold may have had thresholds of its own."""
        first = parts[0]
        if any(part.class_names != first.class_names for part in parts):
            raise ValueError("answers of models with different classes cannot be pooled")
        alike = all(np.array_equal(part.thresholds, first.thresholds) for part in parts)
        each = [np.broadcast_to(part.thresholds, part.segment.shape) for part in parts]
        return cls(
            first.class_names,
            tuple(clip for part in parts for clip in part.clips),
            np.concatenate([part.segment for part in parts]),
            np.concatenate([part.whole for part in parts]),
            first.thresholds if alike and first.thresholds.ndim == 1 else np.concatenate(each),
        )

    def of_fold(self, fold: int) -> Answers:
        """The answers for the clips of one fold."""
        return self.where(lambda clip: clip.fold == fold)

    @property
    def of_classes(self) -> Answers:
        """The answers for all that is not background."""
        return self.where(lambda clip: clip.label != UNKNOWN)

    @property
    def of_background(self) -> Answers:
        """The answers for the windows of sounds of no class."""
        return self.where(lambda clip: clip.label == UNKNOWN)

    def where(self, wanted: Callable[[Clip], bool]) -> Answers:
        """The answers for the clips that are `wanted`."""
        inside = np.array([wanted(clip) for clip in self.clips], dtype=bool)
        return Answers(
            self.class_names,
            tuple(clip for clip in self.clips if wanted(clip)),
            self.segment[inside],
            self.whole[inside],
            self.thresholds[inside] if self.thresholds.ndim == 2 else self.thresholds,
        )

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def truth(self) -> NDArray[np.int64]:
        """Index of each clip's label among the classes, [n]; UNKNOWN_TRUTH where the model does not know it."""
        known = {name: number for number, name in enumerate(self.class_names)}
        return np.array([known.get(clip.label, UNKNOWN_TRUTH) for clip in self.clips], dtype=np.int64)

    @property
    def answered(self) -> NDArray[np.int64]:
        """Index of the best class of each first segment, [n], whatever its threshold."""
        return np.asarray(self.segment.argmax(axis=1))

    @property
    def confidence(self) -> NDArray[np.float32]:
        """Score of that class, [n]."""
        return np.asarray(self.segment.max(axis=1))

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether that class is the truth, [n]."""
        return np.asarray(self.answered == self.truth)

    @property
    def unknown(self) -> NDArray[np.bool_]:
        """Whether the label would be `unknown`, [n]: that class, or a score below its class's threshold."""
        thresholds = np.broadcast_to(self.thresholds, self.segment.shape)
        unsure = self.confidence < thresholds[np.arange(len(self)), self.answered]
        background = np.array([name == UNKNOWN for name in self.class_names])
        return np.asarray(unsure | background[self.answered])
