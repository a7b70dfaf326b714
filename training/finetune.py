"""Fine-tuning: the whole network goes on learning, its lower blocks more slowly than its upper ones.

What a run has reached is kept after each epoch, so one that was killed goes on from there and ends with the same
weights, on TensorFlow, the only backend of Keras's that it was tried on.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import keras
import numpy as np
from rich.progress import Progress
from scipy.special import log_softmax

from earshot.spectrogram import DEFAULT_PARAMS
from serving.network import INCEPTION, Architecture, ConvBlock, Head, blocks_of, cut_inception, feature_network
from training.ahead import ahead
from training.augment import Augmentation, augment
from training.balance import class_weights
from training.calibration import fit_temperature
from training.checkpoint import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from earshot.spectrogram import SpectrogramParams


NORM_MOMENTUM = 0.9
"""Of batch normalisation's means and variances: Keras's 0.99 takes longer than a small data set lasts."""
SETTLING_STEPS = 60
"""After as many, next to nothing is left in these of the weights before."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast a network learns."""

    epochs: int = 30
    batch: int = 32
    rate: float = 4e-4
    """Highest learning rate, of the upper blocks and the head: warmed up to over `warm_up`, then down a cosine."""
    warm_up: float = 0.08
    """Share of all steps."""
    lower_rate: float = 0.3
    """Of the lowest block, as a share of `rate`; the blocks between go up evenly (discriminative learning rates, Howard
    and Ruder 2018)."""
    weight_decay: float = 0.05
    """Decoupled (AdamW, Loshchilov and Hutter 2019), of kernels only."""
    label_smoothing: float = 0.1
    patience: int = 0
    """Epochs without a lower validation loss after which it ends, with the weights of the best; 0: it never does."""
    balance: bool = False
    """Have each class count alike in the loss, however many clips it has."""
    dropout: float = 0.3
    """Of the pooled features, before the head."""
    averaged: float = 0.25
    """Share of the epochs, the last ones, whose weights are averaged (Izmailov et al. 2018)."""
    least_rate: float = 0.05
    """What the cosine ends at, as a share of `rate`: where it is 0, weights that are averaged hardly differ."""
    augmentation: Augmentation = field(default_factory=Augmentation)

    def steps(self, clips: int) -> int:
        """Batches of an epoch of so many clips."""
        return max(1, clips // self.batch)


class Images(Protocol):
    """Images uint8 [windows, mels, frames, channels], in memory or on disk."""

    def __getitem__(self, rows: Any, /) -> NDArray[np.uint8]:
        """Those of these rows."""
        ...


@dataclass(frozen=True, slots=True)
class Examples:
    """What a network learns from."""

    images: Images
    groups: tuple[tuple[int, ...], ...]
    """Windows of each clip: a clip is heard once an epoch at most, through one of its windows. What is left over of the
    last batch waits for another epoch, which has another order."""
    classes: NDArray[np.int64]
    """Class of each clip."""
    noises: tuple[int, ...] = ()
    """Windows of sounds of no class, for `Augmentation.noise`; where there are none, all windows serve."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """A network that was trained further."""

    blocks: tuple[ConvBlock, ...]
    head: Head
    history: tuple[dict[str, float], ...]
    """Of each epoch: `epoch`, `rate` at its end, and mean `loss`; `val_loss` and `val_accuracy` where some clips are
    not learnt from."""
    best: int
    """Epoch whose weights these are, if it ended early; else 0: they are the last epochs' average."""


def best_epoch(history: Sequence[dict[str, float]]) -> int:
    """The epoch of the lowest validation loss so far, the first if there are several."""
    return int(min(history, key=lambda one: one["val_loss"])["epoch"])


def finetune(
    examples: Examples,
    validation: Examples | None,
    class_count: int,
    architecture: Architecture,
    blocks: Sequence[ConvBlock],
    schedule: Schedule,
    seed: int,
    folder: Path,
    params: SpectrogramParams = DEFAULT_PARAMS,
) -> Tuned:
    """Train `blocks` and a new head on `examples`.

    validation: what is not learnt from, and tells after each epoch how far learning has come. folder: keeps the state
    after each epoch; where it has one of this very run, the run goes on from it.
    """
    # Layers are numbered from the start again: TensorFlow adds gradients up in the order of their names. So those of
    # the whole Inception V3, which is built once a process, must not be counted this time and not the next.
    cut_inception(architecture.taps)
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":  # whose threads would add up gradients in another order each time
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    trainer = _Trainer(examples, validation, class_count, architecture, blocks, schedule, seed, params)
    state = Checkpoint(folder / "state.npz", trainer.model, trainer.run)
    done, history = state.restore()
    first_averaged = schedule.epochs - max(1, round(schedule.averaged * schedule.epochs))
    patience = schedule.patience if validation else 0
    with Progress() as progress:
        task = progress.add_task("fine-tuning", total=schedule.epochs * trainer.steps, completed=done * trainer.steps)
        for epoch in range(done, schedule.epochs):
            if patience and history and epoch - best_epoch(history) >= patience:
                break
            history.append(trainer.run_epoch(epoch, lambda: progress.advance(task)))
            if patience and best_epoch(history) == epoch + 1:
                state.mark_best()
            if epoch >= first_averaged:
                state.average()
            state.keep(epoch + 1, history)
    stopped = len(history) < schedule.epochs
    if stopped:
        state.use_best()
    else:
        state.use_average()
        trainer.settle_norms()
    return Tuned(blocks_of(trainer.features), trainer.head(), tuple(history), best_epoch(history) if stopped else 0)


class _Trainer:
    """The network while it learns, and the batches that it learns from."""

    def __init__(
        self,
        examples: Examples,
        validation: Examples | None,
        class_count: int,
        architecture: Architecture,
        blocks: Sequence[ConvBlock],
        schedule: Schedule,
        seed: int,
        params: SpectrogramParams,
    ) -> None:
        self.features = feature_network(architecture, blocks, params)
        self._examples, self._validation, self._params = examples, validation, params
        self._schedule, self._seed, self._class_count = schedule, seed, class_count
        windows = itertools.chain.from_iterable(examples.groups)
        self._noises = np.array(examples.noises or tuple(windows), dtype=np.int64)
        self.steps = schedule.steps(len(examples.groups))
        self._class_weights = class_weights(examples.classes, class_count) if schedule.balance else None
        run = {
            "schedule": asdict(schedule),
            "seed": seed,
            "groups": examples.groups,
            "classes": examples.classes.tolist(),
            "noises": examples.noises,
            "validation": (validation.groups, validation.classes.tolist()) if validation else None,
        }
        self.run = hashlib.sha256(json.dumps(run).encode()).hexdigest()
        for layer in self.features.get_layer(INCEPTION).layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = NORM_MOMENTUM
        values = keras.layers.Dropout(schedule.dropout, seed=seed)(self.features.output)
        logits = keras.layers.Dense(class_count, name="classes", dtype="float32")(values)
        self.model = keras.Model(self.features.input, logits)
        optimizer = _Layerwise(self._shares(), weight_decay=schedule.weight_decay, global_clipnorm=5.0)
        vectors = [variable for variable in self.model.trainable_variables if len(variable.shape) < 2]
        optimizer.exclude_from_weight_decay(var_list=vectors)
        # TensorFlow's own compiler takes longer for it on a CPU, and adds up in another order each time.
        compiled = keras.backend.backend() != "tensorflow"
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        self.model.compile(optimizer, loss, jit_compile=compiled)
        optimizer.build(self.model.trainable_variables)

    def _shares(self) -> list[float]:
        """Share of the learning rate of each trainable variable: up evenly from the lowest block; the heads' is 1."""
        blocks = len(self.features.trainable_variables)
        heads = len(self.model.trainable_variables) - blocks
        return [*np.linspace(self._schedule.lower_rate, 1.0, blocks).tolist(), *[1.0] * heads]

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted over all epochs."""
        schedule = self._schedule
        total = schedule.epochs * self.steps
        warm = min(1.0, (step + 1) / max(1.0, schedule.warm_up * total))
        cosine = 0.5 * (1 + math.cos(math.pi * step / total))
        return schedule.rate * warm * (schedule.least_rate + (1 - schedule.least_rate) * cosine)

    def run_epoch(self, epoch: int, after_step: Callable[[], None]) -> dict[str, float]:
        """Train for one epoch; returns what goes into the history."""
        losses = []
        for number, (images, targets, weights) in enumerate(self._batches(epoch)):
            self.model.optimizer.learning_rate = self.rate(epoch * self.steps + number)
            losses.append(float(self.model.train_on_batch(images, targets, weights)))
            self.model.reset_metrics()  # else the next step's loss is the mean of both
            after_step()
        return {
            "epoch": epoch + 1,
            "rate": self.rate((epoch + 1) * self.steps - 1),
            "loss": float(np.mean(losses)),
            **(self._validated(self._validation) if self._validation else {}),
        }

    def _validated(self, clips: Examples) -> dict[str, float]:
        """Of what is not learnt from, each clip's first window: how often it is named right, and the loss.

        Scores are calibrated for it, as they are when all is over: else a network that goes on learning, and is only
        too sure of it, would look as if it grew worse.
        """
        rows = [own[0] for own in clips.groups]
        size = self._schedule.batch
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        logits = np.concatenate(
            [np.asarray(self.model.predict_on_batch(clips.images[part].astype(np.float32))) for part in parts]
        )
        scores = log_softmax(logits / fit_temperature(logits, clips.classes), axis=1)
        return {
            "val_loss": -float(scores[np.arange(len(rows)), clips.classes].mean()),
            "val_accuracy": float((logits.argmax(axis=1) == clips.classes).mean()),
        }

    def settle_norms(self) -> None:
        """Let batch normalisation measure its means and variances anew: averaged weights have others."""
        self.model.optimizer.learning_rate = 0.0
        epochs = itertools.count(self._schedule.epochs)
        batches = itertools.chain.from_iterable(self._batches(epoch) for epoch in epochs)
        for images, targets, weights in itertools.islice(batches, SETTLING_STEPS):
            self.model.train_on_batch(images, targets, weights)

    def head(self) -> Head:
        """The head that tells the classes apart."""
        kernel, bias = self.model.get_layer("classes").get_weights()
        return Head(((kernel, bias),))

    def _batches(self, epoch: int) -> Any:
        """Images, targets and weights of each step of an epoch: all chance in them comes from seed, epoch and step."""
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._examples.groups))

        def made(step: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32] | None]:
            rng = np.random.default_rng([self._seed, epoch, step])
            clips = order[step * self._schedule.batch : (step + 1) * self._schedule.batch]
            windows = np.array([rng.choice(self._examples.groups[clip]) for clip in clips])
            smoothing = self._schedule.label_smoothing
            classes = np.eye(self._class_count, dtype=np.float32)[self._examples.classes[clips]]
            targets = np.asarray((1 - smoothing) * classes + smoothing / self._class_count, dtype=np.float32)
            how, images = self._schedule.augmentation, self._examples.images
            noises = images[rng.choice(self._noises, len(windows))] if how.noise else None
            sounds, targets = augment(images[windows], targets, how, rng, noises, self._params)
            # A mixed sound counts as much as what it is mixed of.
            return sounds, targets, None if self._class_weights is None else targets @ self._class_weights

        with ThreadPoolExecutor(max_workers=4) as pool:
            for _, batch in ahead(pool, range(self.steps), made, most=8):
                yield batch


class _Layerwise(keras.optimizers.AdamW):  # type: ignore[misc]
    """AdamW with a learning rate of its own for each variable."""

    def __init__(self, shares: list[float], **options: Any) -> None:
        super().__init__(name="layerwise_adamw", **options)
        self._shares = shares

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        # Keras tells an optimiser nothing else about a variable that all its backends have.
        share = self._shares[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * share)
