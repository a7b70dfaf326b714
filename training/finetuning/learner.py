"""How a whole network learns, whatever it is taught: its lower blocks more slowly than its upper ones.

What a run has reached is kept after each epoch, so one that was killed goes on from there and ends with the same
weights.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import keras
import numpy as np
import tensorflow as tf
from rich.progress import Progress

from earshot.logs import get_log
from earshot.spectrogram import DEFAULT_PARAMS
from serving.network import (
    Architecture,
    ConvBlock,
    Head,
    blocks_needed,
    blocks_of,
    conv_layers,
    cut_inception,
    feature_network,
    inception_layers,
)
from training.data.ahead import ahead
from training.finetuning.checkpoint import Checkpoint
from training.finetuning.norms import with_fused_norms
from training.recipe import NotConverged
from training.weights import digest_of

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from earshot.spectrogram import SpectrogramParams

    Batch = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32] | None]
    """Images [batch, mels, frames, channels] of 0 to 255, targets [batch, outputs], and weights [batch] or none."""


log = get_log(__name__)

NORM_MOMENTUM = 0.9
"""Of batch normalisation's means and variances: Keras's 0.99 takes longer than a small data set lasts."""
SETTLING_STEPS = 60
"""After as many, next to nothing is left in these of the weights before."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long and how fast a network learns."""

    epochs: int = 30
    batch: int = 32
    rate: float = 4e-4
    """Highest learning rate, of the upper blocks and the head: warmed up to over `warm_up`, then down a cosine."""
    warm_up: float = 0.08
    """Share of all steps."""
    freeze: str = ""
    """Block of `TAPS` up to which, and with which, all stay as they are; empty: all learn."""
    lower_rate: float = 0.3
    """Of the lowest block that learns, as a share of `rate`; the blocks between go up evenly (discriminative learning
    rates, Howard and Ruder 2018)."""
    weight_decay: float = 0.05
    """Decoupled (AdamW, Loshchilov and Hutter 2019), of kernels only; by the highest rate in all blocks."""
    patience: int = 0
    """Epochs without a lower validation loss after which it ends, with the weights of the best; 0: it never does."""
    dropout: float = 0.3
    """Of the pooled features, before the outputs."""
    averaged: float = 0.25
    """Share of the epochs, the last ones, whose weights are averaged (Izmailov et al. 2018)."""
    least_rate: float = 0.05
    """What the cosine ends at, as a share of `rate`: where it is 0, weights that are averaged hardly differ."""
    norms: bool = True
    """Have batch normalisation measure its means and variances anew; else these, and its offsets, stay."""
    bfloat16: bool = False
    """Compute in bfloat16, with weights in float32."""

    def steps(self, examples: int) -> int:
        """Batches of an epoch of so many examples."""
        return max(1, examples // self.batch)


class Images(Protocol):
    """Images uint8 [windows, mels, frames, channels], in memory or on disk."""

    def __getitem__(self, rows: Any, /) -> NDArray[np.uint8]:
        """Those of these rows."""
        ...


class Predict(Protocol):
    """The network as it is."""

    def __call__(self, images: Images, rows: Sequence[int]) -> NDArray[np.float32]:
        """Outputs [rows, outputs] of the images of these rows, of which no more than a batch is in memory."""
        ...


class Lesson(Protocol):
    """What a network is taught. All chance in it comes from seed, epoch and step."""

    outputs: int
    """Numbers that the network is to give for an image."""
    loss: Any
    """Keras's, of targets and outputs."""
    examples: int
    """Heard once an epoch at most; what is left over of the last batch waits for another, which has another order."""
    decided_by: dict[str, Any]
    """All that decides the lesson, as JSON values: a run goes on only from a state of the same."""

    def start(self) -> Head | None:
        """What the layer for the outputs starts as, one layer [features, outputs]; None is a new one.

        Asked where nothing is kept that could be gone on from. In `decided_by` too, unless it follows from what is
        there.
        """
        ...

    def batch(self, epoch: int, step: int) -> Batch:
        """What is heard in a step of an epoch, both counted from 0; called from several threads."""
        ...

    def validated(self, predict: Predict) -> dict[str, float]:
        """How far learning has come, by what is not learnt from: `val_loss` and more, or nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Learnt:
    """A network that has learnt."""

    blocks: tuple[ConvBlock, ...]
    head: Head
    """The one layer that gives the outputs."""
    history: tuple[dict[str, float], ...]
    """Of each epoch: `epoch`, `rate` at its end, mean `loss`, and what the lesson says of its validation."""
    best: int
    """Epoch whose weights these are, if it ended early; else 0: they are the last epochs' average."""


def best_epoch(history: Sequence[dict[str, float]]) -> int:
    """The epoch of the lowest validation loss so far, the first if there are several; 0 where there is no such loss."""
    validated = [one for one in history if "val_loss" in one]
    return int(min(validated, key=lambda one: one["val_loss"])["epoch"]) if validated else 0


def learn(
    lesson: Lesson,
    architecture: Architecture,
    blocks: Sequence[ConvBlock],
    pace: Pace,
    seed: int,
    folder: Path,
    title: str,
    params: SpectrogramParams = DEFAULT_PARAMS,
) -> Learnt:
    """Teach `blocks`, with a layer for the outputs, the `lesson`.

    folder: keeps the state after each epoch; where it has one of this very run, the run goes on from it. title: of the
    progress bar, and of each epoch's line in the log. Raises NetworkError where `blocks` are too few for the
    architecture, and NotConverged.
    """
    # Layers are numbered from the start again: TensorFlow adds gradients up in the order of their names. So those of
    # the whole Inception V3, which is built once a process, must not be counted this time and not the next.
    cut_inception(architecture.taps)
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()  # else its threads add up gradients in another order each time
    tf.get_logger().addFilter(_not_of_retracing)
    with _precision("mixed_bfloat16" if pace.bfloat16 else "float32"):
        learner = _Learner(lesson, architecture, blocks, pace, seed, params)
    state = Checkpoint(folder / "state.npz", learner.model, learner.run)
    done, history = state.restore()
    if not done:
        learner.begin()
    first_averaged = pace.epochs - max(1, round(pace.averaged * pace.epochs))
    with Progress() as progress:
        task = progress.add_task(title, total=pace.epochs * learner.steps, completed=done * learner.steps)
        for epoch in range(done, pace.epochs):
            best = best_epoch(history)
            if pace.patience and best and epoch - best >= pace.patience:
                break
            history.append(learner.run_epoch(epoch, lambda: progress.advance(task)))
            if pace.patience and best_epoch(history) == epoch + 1:
                state.mark_best()
            if epoch >= first_averaged:
                state.average()
            state.keep(epoch + 1, history)
            figures = {name: float(f"{value:.4g}") for name, value in history[-1].items()}
            log.info(title, **figures | {"epoch": epoch + 1})
    stopped = len(history) < pace.epochs
    if not state.finished:
        if stopped:
            state.use_best()
        else:
            state.use_average()
            if pace.norms:
                learner.settle_norms()
        state.finish(history)
    kernel, bias = learner.model.get_layer("outputs").get_weights()
    if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
        raise NotConverged(f"what was learnt is no number in the end; {_slower(pace)}")
    best = best_epoch(history) if stopped else 0
    return Learnt(blocks_of(learner.features), Head(((kernel, bias),)), tuple(history), best)


def _not_of_retracing(line: logging.LogRecord) -> bool:
    """TensorFlow warns that functions are traced again and again; here each network is a new one."""
    return "tf.function retracing" not in line.getMessage()


@contextmanager
def _precision(policy: str) -> Iterator[None]:
    """Layers that are made within compute in this precision; those that are made later, to be served, do not."""
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


class _Learner:
    """The network while it learns."""

    def __init__(
        self,
        lesson: Lesson,
        architecture: Architecture,
        blocks: Sequence[ConvBlock],
        pace: Pace,
        seed: int,
        params: SpectrogramParams,
    ) -> None:
        features = feature_network(architecture, blocks, params)
        self.features = with_fused_norms(features) if pace.norms else features
        self.steps = pace.steps(lesson.examples)
        self._lesson, self._pace = lesson, pace
        run = {
            "pace": asdict(pace),
            "seed": seed,
            "lesson": lesson.decided_by,
            "outputs": lesson.outputs,
            "architecture": architecture.to_json(),
            "blocks": digest_of(blocks),
        }
        self.run = hashlib.sha256(json.dumps(run).encode()).hexdigest()
        self._networks = inception_layers(self.features)
        for layer in (layer for network in self._networks for layer in network.layers):
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable, layer.momentum = pace.norms, NORM_MOMENTUM
        frozen = blocks_needed((pace.freeze,)) if pace.freeze else 0
        for layer in (layer for network in self._networks for own in conv_layers(network) for layer in own[:frozen]):
            layer.trainable = False
        values = keras.layers.Dropout(pace.dropout, seed=seed)(self.features.output)
        outputs = keras.layers.Dense(lesson.outputs, name="outputs", dtype="float32")(values)
        self.model = keras.Model(self.features.input, outputs)
        optimizer = _Layerwise(self._shares(), weight_decay=pace.weight_decay, global_clipnorm=5.0)
        vectors = [variable for variable in self.model.trainable_variables if len(variable.shape) < 2]
        optimizer.exclude_from_weight_decay(var_list=vectors)
        # XLA takes longer for it on a CPU, and adds up in another order each time.
        self.model.compile(optimizer, lesson.loss, jit_compile=False)
        optimizer.build(self.model.trainable_variables)

    def _shares(self) -> list[float]:
        """Share of the learning rate of each trainable variable: up evenly in each Inception V3, the outputs' is 1."""
        blocks = [len(network.trainable_variables) for network in self._networks]
        others = len(self.model.trainable_variables) - sum(blocks)
        return [*(share for own in blocks for share in np.linspace(self._pace.lower_rate, 1.0, own)), *[1.0] * others]

    def begin(self) -> None:
        """Start the layer for the outputs as the lesson says."""
        if start := self._lesson.start():
            self.model.get_layer("outputs").set_weights(start.layers[0])

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted over all epochs."""
        pace = self._pace
        total = pace.epochs * self.steps
        warm = min(1.0, (step + 1) / max(1.0, pace.warm_up * total))
        cosine = 0.5 * (1 + math.cos(math.pi * step / total))
        return pace.rate * warm * (pace.least_rate + (1 - pace.least_rate) * cosine)

    def run_epoch(self, epoch: int, after_step: Callable[[], None]) -> dict[str, float]:
        """Train for one epoch; returns what goes into the history."""
        losses = []
        for number, (images, targets, weights) in enumerate(self._batches(epoch)):
            self.model.optimizer.learning_rate = self.rate(epoch * self.steps + number)
            losses.append(float(self.model.train_on_batch(images, targets, weights)))
            if not math.isfinite(losses[-1]):
                raise NotConverged(f"in epoch {epoch + 1} the loss is no number any more; {_slower(self._pace)}")
            self.model.reset_metrics()  # else the next step's loss is the mean of both
            after_step()
        return {
            "epoch": epoch + 1,
            "rate": self.rate((epoch + 1) * self.steps - 1),
            "loss": float(np.mean(losses)),
            **self._lesson.validated(self._predict),
        }

    def settle_norms(self) -> None:
        """Let batch normalisation measure its means and variances anew: averaged weights have others."""
        measure = tf.function(lambda images: self.model(images, training=True))
        batches = itertools.chain.from_iterable(self._batches(epoch) for epoch in itertools.count(self._pace.epochs))
        for images, _, _ in itertools.islice(batches, SETTLING_STEPS):
            measure(tf.convert_to_tensor(images))

    def _predict(self, images: Images, rows: Sequence[int]) -> NDArray[np.float32]:
        size = self._pace.batch
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        return np.concatenate(
            [np.asarray(self.model.predict_on_batch(images[part].astype(np.float32))) for part in parts]
        )

    def _batches(self, epoch: int) -> Iterator[Batch]:
        with ThreadPoolExecutor(max_workers=4) as pool:
            for _, batch in ahead(pool, range(self.steps), lambda step: self._lesson.batch(epoch, step), most=8):
                yield batch


def _slower(pace: Pace) -> str:
    return f"learn at a lower rate than {pace.rate:g}, with --learning-rate"


class _Layerwise(keras.optimizers.AdamW):  # type: ignore[misc]
    """AdamW with a learning rate of its own for each variable."""

    def __init__(self, shares: list[float], **options: Any) -> None:
        super().__init__(name="layerwise_adamw", **options)
        self._shares = shares

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        share = self._shares[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * share)
