"""A model of two networks side by side: what is said of it, and that it is served as any."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from earshot.audio import fit_segment
from earshot.spectrogram import spectrogram
from serving.compact import load_compact
from serving.engines.conversion import convert
from serving.engines.int8 import Int8, measure
from serving.engines.openvino_core import CORE
from serving.engines.openvino_engine import OpenVinoEngine, Precision
from serving.engines.tensorflow_engine import TensorFlowEngine
from serving.layout import TRAINING_FILE
from serving.network import feature_network
from tests.training.conftest import BROKEN, QUIET, write_taught
from training.data.clips import load_clip
from training.data.datasets import find_clips
from training.data.heard import marks
from training.retrain import retrain
from training.settings import RetrainSettings
from training.weights import load_weights

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Pair:
    """A model of two networks side by side."""

    weights: tuple[Path, Path]
    report: dict[str, Any]
    version: Path
    compact: Path


@pytest.fixture(scope="module")
def pair(data: Path, weights_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("pair")
    clips = [clip for clip in find_clips(data) if clip.path.relative_to(data).as_posix() not in BROKEN]
    for name, heard, times in (("a", clips, 1.0), ("b", clips, -1.0), ("c", clips[::6], 1.0), ("d", [], -1.0)):
        write_taught(weights_file, folder / f"{name}.npz", marks(heard), times=times)
    a, b, c, d = (folder / f"{name}.npz" for name in "abcd")
    settings = {
        "data": str(data),
        "weights": f"{a}+{b}",
        "calibrate_by": f"{c}+{d}",
        "evaluate": "1",
        "generated_background": 0,
        "cache": folder / "cache",
        "model_base_path": folder / "models",
        "compact": folder / "pair.npz",
    }
    report = retrain(RetrainSettings.read(settings), QUIET)
    return Pair((a, b), report, folder / "models" / "1", folder / "pair.npz")


def scores_of(engine: TensorFlowEngine | OpenVinoEngine, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    try:
        return np.asarray(engine.run("serving_default", {"spectrogram": images}, ["scores"])["scores"])
    finally:
        engine.close()


def test_networks_side_by_side_are_named_in_report_card_and_record(pair: Pair) -> None:
    assert (pair.report["weights"], pair.report["architecture"]["inceptions"]) == ("a.npz+b.npz", 2)
    assert "2 Inception V3s side by side (a.npz+b.npz)" in (pair.version / "assets.extra" / "card.md").read_text()
    assert json.loads((pair.version / TRAINING_FILE).read_text())["calibrated_by"] == ["c.npz+d.npz"]


def test_networks_side_by_side_are_served_by_both_engines_in_8_bits_too(pair: Pair, data: Path, tmp_path: Path) -> None:
    clips = [clip for clip in find_clips(data) if clip.path.relative_to(data).as_posix() not in BROKEN][::4]
    images = np.array([spectrogram(fit_segment(load_clip(clip.path))) for clip in clips])
    compact = load_compact(pair.compact)
    one = replace(compact.architecture, inceptions=1)
    networks = [feature_network(one, load_weights(str(own)).blocks) for own in pair.weights]
    features = [network(images.astype(np.float32), training=False) for network in networks]
    wanted = compact.head.scores(np.concatenate(features, axis=1))
    assert np.ptp(wanted, axis=0).max() > 0.1
    answered = scores_of(TensorFlowEngine(pair.version), images)
    np.testing.assert_allclose(answered, wanted, atol=5e-3)  # the file has the head in 16 bits
    np.testing.assert_allclose(
        scores_of(OpenVinoEngine(pair.version, Precision.F32, tmp_path), images), answered, atol=1e-4
    )
    calibration = measure(CORE.read_model(convert(pair.version, tmp_path).network), images)
    assert len(calibration.kernels) == len(compact.blocks)
    quantised = tmp_path / "quantised" / "1"
    shutil.copytree(pair.version, quantised)
    Int8(calibration, len(clips), 9, unseen=True, agreement=1.0, accuracy_float32=1.0, accuracy_int8=1.0).write(
        quantised
    )
    in_8_bits = scores_of(OpenVinoEngine(quantised, Precision.INT8, tmp_path), images)
    np.testing.assert_allclose(in_8_bits, answered, atol=0.05)  # without one of the networks it is 0.06 off
