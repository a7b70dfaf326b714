"""A data set of synthetic sounds and random weights in the 8 bit form: retraining end to end, in seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
import soundfile
from rich.console import Console

from serving.network import Architecture, Head, blocks_needed, creation_order
from training.retrain import run
from training.settings import RetrainSettings
from training.weights import load_weights, save_weights

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ROOT = Path(__file__).parents[2]
CLASSES = ("hiss", "hum", "whistle")
CLIPS_EACH = 8
CLIPS = CLIPS_EACH * len(CLASSES)
"""That hold sound."""
BROKEN = ("hum/corrupt.wav", "hiss/empty.wav")
QUIET = Console(quiet=True)
SMALL = Architecture(("mixed0",), 1, shrink=(2, 4))
"""Little to compute."""


def sound(kind: str, rng: np.random.Generator) -> Any:
    """Half a second at 16 kHz of noise, of a low tone or of a high one."""
    time_s = np.arange(8_000) / 16_000
    if kind == "hiss":
        return 0.3 * rng.normal(size=time_s.size).clip(-3, 3) / 3
    tone_hz = rng.uniform(80, 200) if kind == "hum" else rng.uniform(3_000, 5_000)
    return 0.5 * np.sin(2 * np.pi * tone_hz * time_s) + 0.001 * rng.normal(size=time_s.size)


def run_file(name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A file of training's as a command, as the tutorial ran its own."""
    command = [sys.executable, str(ROOT / "training" / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, cwd=cwd)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each class; two clips hold no sound. Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for kind in CLASSES:
        (folder / kind).mkdir()
        for number in range(CLIPS_EACH):
            soundfile.write(folder / kind / f"{kind}-{number}.wav", sound(kind, rng), 16_000)
    (folder / BROKEN[0]).write_bytes(b"no recording at all")
    soundfile.write(folder / BROKEN[1], np.zeros(0), 16_000)
    return folder


@pytest.fixture(scope="session")
def arrays() -> dict[str, Any]:
    """Random weights of a whole Inception V3, as the 8 bit file has them."""
    network = keras.applications.InceptionV3(include_top=False, weights=None, input_shape=(128, 301, 3))
    convolutions = creation_order([layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)])
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {}
    for number, layer in enumerate(convolutions, start=1):
        shape = tuple(layer.kernel.shape)
        spread = np.sqrt(6 / np.prod(shape[:3]))
        found[f"conv2d_{number}/kernel:q"] = rng.integers(0, 256, shape, dtype=np.uint8)
        found[f"conv2d_{number}/kernel:ms"] = np.array([-spread, 2 * spread / 255], np.float32)
        for name, low, high in (("beta", -0.1, 0.1), ("moving_mean", -0.1, 0.1), ("moving_variance", 0.8, 1.2)):
            key = f"batch_normalization_{number}/{name}"
            found[f"{key}:q"] = rng.integers(0, 256, shape[3], dtype=np.uint8)
            found[f"{key}:ms"] = np.array([low, (high - low) / 255], np.float32)
    return found


@pytest.fixture(scope="session")
def weights_file(arrays: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "random_u8.npz"
    np.savez(path, **arrays)
    return path


def write_taught(
    weights_file: Path,
    path: Path,
    heard: Iterable[str] | None,
    architecture: Architecture = SMALL,
    times: float = 1.0,
    outputs: int = 3,
    notes: Sequence[str] = (),
) -> None:
    """The random weights, `times` that, as if they had been taught by what has these marks; their readout says it."""
    blocks = load_weights(str(weights_file)).blocks[: blocks_needed(architecture.taps)]
    blocks = tuple(replace(block, kernel=block.kernel * np.float32(times)) for block in blocks)
    kernel = np.full((architecture.widths[0], outputs), times, np.float32)
    readout = Head(((kernel, np.full(outputs, times, np.float32)),))
    save_weights(blocks, architecture, readout, path, heard, notes)


@dataclass(frozen=True)
class Trained:
    settings: dict[str, Any]
    report: dict[str, Any]
    model_base_path: Path


@pytest.fixture(scope="session")
def trained(data: Path, weights_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """What one whole run said and published."""
    folder = tmp_path_factory.mktemp("trained")
    settings = {
        "data": str(data),
        "weights": str(weights_file),
        "taps": "mixed0",
        "bands": 2,
        "protocol": "random",
        "generated_background": 0,
        "cache": folder / "cache",
        "report": folder / "report.json",
        "run_dir": folder / "runs",
        "model_base_path": folder / "models" / "earshot",
        "compact": folder / "compact.npz",
    }
    run(RetrainSettings.read(settings))
    return Trained(settings, json.loads((folder / "report.json").read_text()), folder / "models" / "earshot")
