"""A small network that is fine-tuned on synthetic spectrograms of two classes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from earshot.spectrogram import SpectrogramParams
from serving.network import Architecture, Head
from training.finetuning.finetune import Examples, Schedule, finetune
from training.weights import Weights, load_weights

if TYPE_CHECKING:
    from pathlib import Path

    from training.finetuning.learner import Learnt

PARAMS = SpectrogramParams(mels=64, hop_samples=640)
ARCHITECTURE = Architecture(("mixed0",), 1, shrink=(1, 1))
KERNEL = np.random.default_rng(0).normal(0, 0.05, (ARCHITECTURE.widths[0], 2)).astype(np.float32)
HEAD = Head(((KERNEL, np.zeros(2, np.float32)),))
SCHEDULE = Schedule(epochs=4, batch=4, rate=1e-3, averaged=0.5, dropout=0.1)


@pytest.fixture(scope="package")
def weights(weights_file: Path) -> Weights:
    return load_weights(str(weights_file))


def two_classes() -> Examples:
    """Two classes, bright in low or in high mel bands; two windows of each of sixteen clips."""
    rng = np.random.default_rng(0)
    classes = np.arange(16) % 2
    images = rng.integers(0, 60, (32, PARAMS.mels, PARAMS.frames(), 3), dtype=np.uint8)
    for window in range(32):
        half = slice(0, 32) if classes[window // 2] else slice(32, 64)
        images[window, half] += 150
    return Examples(images, tuple((2 * clip, 2 * clip + 1) for clip in range(16)), classes)


@pytest.fixture(scope="package")
def examples() -> Examples:
    """What is learnt from."""
    return two_classes()


def others(examples: Examples) -> Examples:
    """Other clips of the same classes, which are not learnt from."""
    images = examples.images[:16]
    noise = np.random.default_rng(1).integers(0, 40, images.shape, dtype=np.uint8)
    return Examples(images // 2 + noise, tuple((clip,) for clip in range(16)), np.arange(16) // 2 % 2)


@pytest.fixture(scope="package")
def unseen(examples: Examples) -> Examples:
    """What is not learnt from."""
    return others(examples)


def tune(
    examples: Examples,
    weights: Weights,
    folder: Path,
    schedule: Schedule = SCHEDULE,
    seed: int = 0,
    validation: Examples | None = None,
    head: Head = HEAD,
) -> Learnt:
    return finetune(
        examples,
        validation,
        head.classes,
        lambda: head,
        ARCHITECTURE,
        weights.blocks,
        schedule,
        seed,
        folder,
        "tuning",
        PARAMS,
    )


@pytest.fixture(scope="package")
def whole(examples: Examples, unseen: Examples, weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Learnt:
    return tune(examples, weights, tmp_path_factory.mktemp("whole"), validation=unseen)


def values(tuned: Learnt) -> list[Any]:
    return [array for block in tuned.blocks for array in (block.kernel, block.beta, block.mean, block.variance)] + [
        array for layer in tuned.head.layers for array in layer
    ]


@pytest.fixture(scope="package")
def contrary(unseen: Examples) -> Examples:
    """Clips of which a network is the more wrong the more it learns."""
    return replace(unseen, classes=1 - unseen.classes)


PATIENT = replace(SCHEDULE, epochs=6, patience=2)
