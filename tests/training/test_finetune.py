from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest

from earshot.spectrogram import SpectrogramParams
from serving.network import Architecture, build_network
from training.augment import Augmentation
from training.checkpoint import Checkpoint
from training.finetune import Examples, Schedule, Tuned, finetune
from training.weights import Weights, load_weights

if TYPE_CHECKING:
    from pathlib import Path

PARAMS = SpectrogramParams(mels=64, hop_samples=640)
ARCHITECTURE = Architecture(("mixed0",), 1, shrink=(1, 1))
SCHEDULE = Schedule(epochs=4, batch=4, rate=1e-3, averaged=0.5, dropout=0.1)


@pytest.fixture(scope="module")
def weights(weights_file: Path) -> Weights:
    return load_weights(str(weights_file))


@pytest.fixture(scope="module")
def examples() -> Examples:
    """Two classes, bright in low or in high mel bands; two windows of each of sixteen clips."""
    rng = np.random.default_rng(0)
    classes = np.arange(16) % 2
    images = rng.integers(0, 60, (32, PARAMS.mels, PARAMS.frames(), 3), dtype=np.uint8)
    for window in range(32):
        half = slice(0, 32) if classes[window // 2] else slice(32, 64)
        images[window, half] += 150
    return Examples(images, tuple((2 * clip, 2 * clip + 1) for clip in range(16)), classes)


def tune(examples: Examples, weights: Weights, folder: Path, schedule: Schedule = SCHEDULE, seed: int = 0) -> Tuned:
    return finetune(examples, 2, ARCHITECTURE, weights.blocks, schedule, seed, folder, PARAMS)


@pytest.fixture(scope="module")
def whole(examples: Examples, weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    return tune(examples, weights, tmp_path_factory.mktemp("whole"))


def values(tuned: Tuned) -> list[Any]:
    return [array for block in tuned.blocks for array in (block.kernel, block.beta, block.mean, block.variance)] + [
        array for layer in tuned.head.layers for array in layer
    ]


def test_what_is_learnt_tells_the_classes_apart_in_the_network_that_is_served(
    whole: Tuned, examples: Examples, weights: Weights
) -> None:
    network = build_network(ARCHITECTURE, whole.blocks, whole.head, PARAMS)
    scores = network(examples.images.astype(np.float32), training=False).numpy()
    assert (scores.argmax(axis=1) == np.repeat(examples.classes, 2)).mean() > 0.9
    moved = [
        np.abs(one.kernel - before.kernel).max() for one, before in zip(whole.blocks, weights.blocks, strict=False)
    ]
    assert min(moved) > 0


def test_the_history_has_every_epoch_and_its_losses(whole: Tuned) -> None:
    assert [one["epoch"] for one in whole.history] == [1, 2, 3, 4]
    assert whole.history[-1]["loss"] < whole.history[0]["loss"]
    assert 0 < whole.history[-1]["rate"] < whole.history[0]["rate"] <= SCHEDULE.rate


def test_a_run_that_is_cut_off_ends_with_the_same_weights(
    whole: Tuned,
    examples: Examples,
    weights: Weights,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keep = Checkpoint.keep

    def cut_off(self: Checkpoint, done: int, history: list[dict[str, float]]) -> None:
        keep(self, done, history)
        if done == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "keep", cut_off)
        with pytest.raises(KeyboardInterrupt):
            tune(examples, weights, tmp_path)
    again = tune(examples, weights, tmp_path)
    assert again.history == whole.history
    for one, other in zip(values(again), values(whole), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_state_of_another_run_is_not_gone_on_from(examples: Examples, weights: Weights, tmp_path: Path) -> None:
    one = replace(SCHEDULE, epochs=1)
    first = tune(examples, weights, tmp_path, one, seed=1)
    second = tune(examples, weights, tmp_path, one, seed=2)
    assert len(second.history) == 1
    assert not np.array_equal(first.head.layers[0][0], second.head.layers[0][0])


def test_a_broken_state_is_begun_anew(examples: Examples, weights: Weights, tmp_path: Path) -> None:
    (tmp_path / "state.npz").write_bytes(b"PK\x03\x04 cut off")
    assert len(tune(examples, weights, tmp_path, replace(SCHEDULE, epochs=1)).history) == 1


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
