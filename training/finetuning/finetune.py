"""Fine-tuning: the whole network goes on learning, from labelled clips."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import keras
import numpy as np

from earshot.spectrogram import DEFAULT_PARAMS
from serving.network import Head
from training.finetuning.augment import Augmentation, augment
from training.finetuning.learner import Pace, learn
from training.heads.balance import balanced, class_weights
from training.heads.calibration import log_loss
from training.heads.head import HEADS, never_seen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from earshot.spectrogram import SpectrogramParams
    from serving.network import Architecture, ConvBlock
    from training.finetuning.learner import Batch, Images, Learnt, Predict

_UNLIKELY = -10.0
"""Bias that a class which the head never saw begins with: its own, next to minus infinity, would make the loss of
smoothed labels as large."""


@dataclass(frozen=True, slots=True)
class Schedule(Pace):
    """How long and how fast a network learns, and from what."""

    norms: bool = False
    """Measured anew from some 1,270 clips they were no better: docs/experiments.md, Fine-tuning."""
    label_smoothing: float = 0.1
    balance: bool = False
    """Have each class count alike, in the loss and in what is chosen, however many clips it has."""
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True, slots=True)
class Examples:
    """What a network learns from."""

    images: Images
    groups: tuple[tuple[int, ...], ...]
    """Windows of each clip: a clip is heard once an epoch at most, through one of its windows."""
    classes: NDArray[np.int64]
    """Class of each clip."""
    noises: tuple[int, ...] = ()
    """Windows of sounds of no class, for `Augmentation.noise`; where there are none, all windows serve."""
    sources: tuple[str, ...] = ()
    """Recording of each clip, where what is answered is to choose thresholds."""


def finetune(
    examples: Examples,
    validation: Examples | None,
    outputs: int,
    head: Callable[[], Head],
    architecture: Architecture,
    blocks: Sequence[ConvBlock],
    schedule: Schedule,
    seed: int,
    folder: Path,
    title: str,
    params: SpectrogramParams = DEFAULT_PARAMS,
) -> Learnt:
    """Train `blocks` and a `head`, of one layer with so many `outputs`, on `examples`; the head is asked for if needed.

    A head that was trained on the features of `blocks` as they are keeps these from being pulled about while a new one
    finds its way (linear probing, then fine-tuning: Kumar et al. 2022). validation: what is not learnt from, and tells
    after each epoch how far learning has come. folder: keeps the state after each epoch; where it has one of this very
    run, the run goes on from it. Which head that run began with does not count: its last bits may be others on another
    machine, so it has to follow from all else. title: of the progress bar and of the log's lines.
    """
    lesson = _Labelled(examples, validation, outputs, head, schedule, seed, params)
    return learn(lesson, architecture, blocks, schedule, seed, folder, title, params)


class _Labelled:
    """Clips and their classes (a `Lesson`)."""

    def __init__(
        self,
        examples: Examples,
        validation: Examples | None,
        outputs: int,
        head: Callable[[], Head],
        schedule: Schedule,
        seed: int,
        params: SpectrogramParams,
    ) -> None:
        self._head, self.outputs = head, outputs
        self.loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        self.examples = len(examples.groups)
        self.decided_by = {
            "groups": examples.groups,
            "classes": examples.classes.tolist(),
            "noises": examples.noises,
            "heads": HEADS,
            "validation": (validation.groups, validation.classes.tolist()) if validation else None,
        }
        self._learnt, self._validation, self._params = examples, validation, params
        self._schedule, self._seed = schedule, seed
        windows = tuple(window for own in examples.groups for window in own)
        self._noises = np.array(examples.noises or windows, dtype=np.int64)
        self._class_weights: NDArray[np.float32] | None = None
        if schedule.balance:
            each = class_weights(np.ones(self.examples), examples.classes, self.outputs)
            self._class_weights = each.astype(np.float32)

    def start(self) -> Head:
        """The head, with a bias for classes that it never saw that can be learnt from."""
        head = self._head()
        kernel, bias = head.layers[0]
        return Head(((kernel, np.where(never_seen(head), np.float32(_UNLIKELY), bias)),))

    def batch(self, epoch: int, step: int) -> Batch:
        """Clips, each through a window of its own, augmented."""
        schedule = self._schedule
        order = np.random.default_rng([self._seed, epoch]).permutation(self.examples)
        rng = np.random.default_rng([self._seed, epoch, step])
        clips = order[step * schedule.batch : (step + 1) * schedule.batch]
        windows = np.array([rng.choice(self._learnt.groups[clip]) for clip in clips])
        smoothing = schedule.label_smoothing
        classes = np.eye(self.outputs, dtype=np.float32)[self._learnt.classes[clips]]
        targets = np.asarray((1 - smoothing) * classes + smoothing / self.outputs, dtype=np.float32)
        images = self._learnt.images
        noises = images[rng.choice(self._noises, len(windows))] if schedule.augmentation.noise else None
        sounds, targets = augment(images[windows], targets, schedule.augmentation, rng, noises, self._params)
        # A mixed sound counts as much as what it is mixed of.
        return sounds, targets, None if self._class_weights is None else targets @ self._class_weights

    def validated(self, predict: Predict) -> dict[str, float]:
        """Of what is not learnt from, each clip's first window: how often it is named right, and the loss.

        Scores are calibrated for it, as they are when all is over: else a network that goes on learning, and is only
        too sure of it, would look as if it grew worse.
        """
        clips = self._validation
        if clips is None:
            return {}
        rows = [own[0] for own in clips.groups]
        logits = predict(clips.images, rows)
        counts = np.ones(len(rows))
        if self._schedule.balance:
            counts = balanced(counts, clips.classes, self.outputs)
        return {
            "val_loss": log_loss(logits, clips.classes, counts),
            "val_accuracy": float((logits.argmax(axis=1) == clips.classes).mean()),
        }
