"""Small versions that tell the synthetic sounds apart, and `earshot models promote` on them."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

from earshot.audio import fit_segment
from earshot.cli import app
from earshot.spectrogram import spectrogram
from serving.export import export_saved_model
from serving.layout import TRAINING_FILE
from tests.training.conftest import BROKEN, CLASSES
from training.data.clips import load_clip
from training.data.datasets import find_clips

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

REFUSED, USAGE = 1, 2


def network(data: Path, sureness: float = 10.0) -> Any:
    """Tells the three sounds apart by how loud each mel band is: one dense layer, solved for."""
    clips = [clip for clip in find_clips(data) if clip.path.relative_to(data).as_posix() not in BROKEN]
    images = [spectrogram(fit_segment(load_clip(clip.path))) / 255 for clip in clips]
    features = np.array([np.append(image[:, :, 0].mean(axis=1), 1) for image in images])
    wanted = sureness * np.eye(len(CLASSES))[[CLASSES.index(clip.label) for clip in clips]]
    solved = np.linalg.lstsq(features, wanted, rcond=1e-3)[0]
    layers = keras.Sequential(
        [
            keras.Input((128, 301, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.AveragePooling2D((1, 301)),
            keras.layers.Flatten(),
            keras.layers.Dense(len(CLASSES), activation="softmax"),
        ]
    )
    kernel = np.zeros((128, 3, len(CLASSES)))
    kernel[:, 0] = solved[:-1]
    layers.layers[-1].set_weights([kernel.reshape(-1, len(CLASSES)), solved[-1]])
    return layers


@pytest.fixture(scope="session")
def good(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version that names every clip right, and says that it was trained on none of them."""
    record = {TRAINING_FILE: json.dumps({"recordings": []})}
    folder = tmp_path_factory.mktemp("good") / "1"
    return export_saved_model(network(data), CLASSES, folder, card="# Good\n", extra=record)


@pytest.fixture(scope="session")
def bad(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with its class names mixed up, trained on one recording."""
    record = {TRAINING_FILE: json.dumps({"recordings": ["hum/hum-0"]})}
    folder = tmp_path_factory.mktemp("bad") / "1"
    return export_saved_model(network(data), CLASSES[1:] + CLASSES[:1], folder, card="# Bad\n", extra=record)


def base_path_with(version: Path, folder: Path) -> Path:
    shutil.copytree(version, folder / "models" / "1")
    return folder / "models"


def words(candidate: Path, base_path: Path, data: Path | None, *more: str) -> list[str]:
    own = ["--data", str(data)] if data else []
    return ["models", "promote", str(candidate), "--model-base-path", str(base_path), *own, *more]


def promote(candidate: Path, base_path: Path, data: Path | None, *more: str) -> Result:
    return CliRunner().invoke(app, words(candidate, base_path, data, *more))


def names(base_path: Path) -> list[str]:
    return sorted(path.name for path in base_path.iterdir())
