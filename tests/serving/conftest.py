"""A small network and its exported version, shared by the serving tests: TensorFlow is slow to start, so once a run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pytest

from serving.export import export_saved_model

if TYPE_CHECKING:
    from pathlib import Path

CLASS_NAMES = ["dog_bark", "siren", "straße"]


def small_network(seed: int = 0, classes: int = len(CLASS_NAMES)) -> Any:
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((128, 301, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(4, 9, strides=9, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(classes, activation="softmax"),
        ]
    )


@pytest.fixture(scope="session")
def network() -> Any:
    return small_network()


@pytest.fixture(scope="session")
def exported(network: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an exported version; tests copy it and never change it."""
    return export_saved_model(network, CLASS_NAMES, tmp_path_factory.mktemp("exported") / "1", card="# A card\n")
