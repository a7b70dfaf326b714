"""What a network learns by fine-tuning, and how."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from structlog.testing import capture_logs

from serving.network import Architecture, Head, blocks_needed, build_network
from tests.training.finetuning.conftest import ARCHITECTURE, KERNEL, PARAMS, PATIENT, SCHEDULE, tune
from training.finetuning.augment import Augmentation, augment
from training.finetuning.checkpoint import Checkpoint
from training.finetuning.finetune import Examples, finetune
from training.recipe import NotConverged

if TYPE_CHECKING:
    from pathlib import Path

    from training.finetuning.learner import Learnt
    from training.weights import Weights


def test_what_is_learnt_tells_the_classes_apart_in_the_network_that_is_served(
    whole: Learnt, examples: Examples, weights: Weights
) -> None:
    network = build_network(ARCHITECTURE, whole.blocks, whole.head, PARAMS)
    scores = network(examples.images[:].astype(np.float32), training=False).numpy()
    assert (scores.argmax(axis=1) == np.repeat(examples.classes, 2)).mean() > 0.9
    moved = [
        np.abs(one.kernel - before.kernel).max() for one, before in zip(whole.blocks, weights.blocks, strict=False)
    ]
    assert min(moved) > 0


def test_networks_side_by_side_learn_together_each_its_lower_blocks_more_slowly(
    examples: Examples, weights: Weights, tmp_path: Path
) -> None:
    blocks = weights.blocks[: blocks_needed(ARCHITECTURE.taps)]
    pair = replace(ARCHITECTURE, inceptions=2)
    head = Head(((np.concatenate([KERNEL, KERNEL]), np.zeros(2, np.float32)),))
    still = replace(SCHEDULE, epochs=1, lower_rate=0.0, dropout=0.0, weight_decay=0.0)
    learnt = finetune(examples, None, 2, lambda: head, pair, blocks * 2, still, 0, tmp_path, "tuning", PARAMS)
    moved = [
        float(np.abs(one.kernel - before.kernel).max()) for one, before in zip(learnt.blocks, blocks * 2, strict=True)
    ]
    first, second = moved[: len(blocks)], moved[len(blocks) :]
    assert first[0] == second[0] == 0
    assert min(*first[1:], *second[1:]) > 0
    assert first == pytest.approx(second, rel=0.05)


@pytest.mark.parametrize("norms", [False, True])
def test_blocks_up_to_one_that_is_frozen_stay_as_they_are(
    examples: Examples, weights: Weights, tmp_path: Path, *, norms: bool
) -> None:
    architecture = Architecture(("mixed1",), 1)
    kernel = np.random.default_rng(0).normal(0, 0.05, (architecture.widths[0], 2)).astype(np.float32)
    head = Head(((kernel, np.zeros(2, np.float32)),))
    upper = replace(SCHEDULE, epochs=1, freeze="mixed0", norms=norms)
    learnt = finetune(
        examples, None, 2, lambda: head, architecture, weights.blocks, upper, 0, tmp_path, "tuning", PARAMS
    )
    below = blocks_needed(("mixed0",))
    for number, (one, before) in enumerate(zip(learnt.blocks, weights.blocks, strict=False)):
        assert np.array_equal(one.kernel, before.kernel) == (number < below)
        assert np.array_equal(one.mean, before.mean) == (number < below or not norms)
    assert len(learnt.blocks) > below


def test_the_history_has_every_epoch_and_its_losses(whole: Learnt) -> None:
    assert [one["epoch"] for one in whole.history] == [1, 2, 3, 4]
    assert whole.history[-1]["loss"] < whole.history[0]["loss"]
    assert 0 < whole.history[-1]["rate"] < whole.history[0]["rate"] <= SCHEDULE.rate


def test_clips_that_are_not_learnt_from_tell_how_far_learning_has_come(whole: Learnt) -> None:
    assert all(0 <= one["val_loss"] < 0.8 for one in whole.history)
    assert min(one["val_loss"] for one in whole.history) < 0.5
    assert max(one["val_accuracy"] for one in whole.history) > 0.8
    assert whole.best == 0  # nobody asked that it end early


def test_without_a_better_epoch_it_ends_with_the_weights_of_the_best(
    examples: Examples, contrary: Examples, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels: list[Any] = []
    keep = Checkpoint.keep

    def recording(self: Checkpoint, done: int, history: list[dict[str, float]]) -> None:
        keep(self, done, history)
        kernels.append(np.asarray(self._model.get_layer("outputs").kernel).copy())

    monkeypatch.setattr(Checkpoint, "keep", recording)
    with capture_logs() as lines:
        tuned = tune(examples, weights, tmp_path, PATIENT, validation=contrary)
    losses = [one["val_loss"] for one in tuned.history]
    assert [line["val_loss"] for line in lines] == pytest.approx(losses, rel=1e-3)  # for whoever sees no progress bar
    assert len(losses) < PATIENT.epochs
    assert tuned.best == 1 + losses.index(min(losses)) == len(losses) - PATIENT.patience
    np.testing.assert_array_equal(tuned.head.layers[0][0], kernels[tuned.best - 1])


def test_it_begins_with_the_head_that_is_given(examples: Examples, weights: Weights, tmp_path: Path) -> None:
    given = Head(((KERNEL, np.array([0.5, -1e9], np.float32)),))
    slow = replace(SCHEDULE, epochs=1, rate=1e-6, weight_decay=0)
    tuned = tune(examples, weights, tmp_path, slow, head=given)
    np.testing.assert_allclose(tuned.head.layers[0][0], KERNEL, atol=1e-4)
    # Of a class that it never saw a head says next to minus infinity; the loss has to stay finite in practice.
    np.testing.assert_allclose(tuned.head.layers[0][1], [0.5, -10], atol=1e-3)
    assert tuned.history[0]["loss"] < 20


@pytest.mark.parametrize("measured", [False, True])
def test_what_batch_normalisation_has_measured_stays_unless_it_is_to_measure_anew(
    examples: Examples, weights: Weights, tmp_path: Path, measured: bool
) -> None:
    tuned = tune(examples, weights, tmp_path, replace(SCHEDULE, epochs=1, norms=measured))
    changed = [
        not np.array_equal(getattr(one, name), getattr(before, name))
        for one, before in zip(tuned.blocks, weights.blocks, strict=False)
        for name in ("mean", "variance", "beta")
    ]
    assert changed == [measured] * len(changed)
    assert tuned.blocks


def test_without_augmentation_it_learns_too(examples: Examples, weights: Weights, tmp_path: Path) -> None:
    none = Augmentation(shift=0, pitch_bands=0, tilt=0, masks=0, mixup=0)
    schedule = replace(SCHEDULE, augmentation=none, epochs=2)
    tuned = tune(examples, weights, tmp_path, schedule)
    assert tuned.history[-1]["loss"] < tuned.history[0]["loss"]


def test_balanced_a_clip_of_a_rare_class_counts_more(
    examples: Examples, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recorded on the way into the real training: targets and weights of each batch."""
    given: list[tuple[Any, Any]] = []
    train = keras.Model.train_on_batch

    def recording(self: Any, images: Any, targets: Any, sample_weight: Any = None) -> Any:
        given.append((targets, sample_weight))
        return train(self, images, targets, sample_weight)

    monkeypatch.setattr(keras.Model, "train_on_batch", recording)
    rare = Examples(examples.images, examples.groups, (np.arange(16) >= 12).astype(np.int64))
    plain = replace(SCHEDULE, epochs=1, label_smoothing=0, augmentation=replace(Augmentation(), mixup=0.9))
    for balance in (False, True):
        tune(rare, weights, tmp_path, replace(plain, balance=balance))
    without, balanced = given[: len(given) // 2], given[len(given) // 2 :]
    assert all(weight is None for _, weight in without)
    for targets, weight in balanced:
        np.testing.assert_allclose(weight, targets @ np.array([16 / 24, 16 / 8]), rtol=1e-5)


def test_sounds_of_no_class_are_beside_those_that_are_learnt(
    examples: Examples, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recorded on the way into the real augmentation: the noises that each batch gets."""
    given: list[Any] = []

    def recording(images: Any, targets: Any, how: Any, rng: Any, noises: Any, params: Any) -> Any:
        given.append(noises)
        return augment(images, targets, how, rng, noises, params)

    monkeypatch.setattr("training.finetuning.finetune.augment", recording)
    noisy = replace(SCHEDULE, epochs=1, augmentation=Augmentation(noise=0.5))
    tune(replace(examples, noises=(3, 5)), weights, tmp_path, noisy)
    alike = [(noises[:, None] == examples.images[[3, 5]]).all(axis=(2, 3, 4)).any(axis=1) for noises in given]
    assert len(given) >= 4
    assert all(each.all() for each in alike)
    given.clear()
    tune(examples, weights, tmp_path, noisy)  # where there are none, any window will do
    assert len({noise.tobytes() for noises in given for noise in noises}) > 4


def test_in_bfloat16_it_learns_the_same_and_what_is_served_stays_in_float32(
    examples: Examples, weights: Weights, tmp_path: Path
) -> None:
    tuned = tune(examples, weights, tmp_path, replace(SCHEDULE, bfloat16=True))
    network = build_network(ARCHITECTURE, tuned.blocks, tuned.head, PARAMS)
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}
    scores = network(examples.images[:].astype(np.float32), training=False).numpy()
    assert (scores.argmax(axis=1) == np.repeat(examples.classes, 2)).mean() > 0.9
    # bfloat16 has the upper half of a float32's bits.
    assert any((np.ascontiguousarray(block.kernel).view(np.uint32) & 0xFFFF).any() for block in tuned.blocks)


def test_of_what_tensorflow_says_only_that_networks_are_traced_anew_is_left_out(
    examples: Examples, weights: Weights, tmp_path: Path
) -> None:
    tune(examples, weights, tmp_path, replace(SCHEDULE, epochs=1))
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = tf.get_logger()
    logger.addHandler(handler)
    try:
        traced = tf.function(lambda value: value + 1)
        for value in range(8):  # TensorFlow warns from the fifth on
            traced(value)
        logger.warning("something else")
    finally:
        logger.removeHandler(handler)
    assert said == ["something else"]


def test_a_loss_that_is_no_number_ends_learning_and_says_what_to_change(
    examples: Examples, unseen: Examples, weights: Weights, tmp_path: Path
) -> None:
    with pytest.raises(
        NotConverged, match=r"in epoch \d the loss is no number any more; learn at a lower rate than 1e"
    ):
        tune(examples, weights, tmp_path, replace(SCHEDULE, rate=1e30), validation=unseen)
