"""`earshot models quantize` from end to end: a small model, synthetic sounds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

import serving.engines.int8
import training.release.quantising
from earshot.cli import app
from serving.engines.int8 import Int8
from serving.engines.openvino_engine import OpenVinoEngine, Precision
from serving.export import export_saved_model
from serving.layout import INT8_FILE, TRAINING_FILE
from tests.training.conftest import BROKEN, CLASSES, CLIPS_EACH
from tests.training.promotion.conftest import network
from training.data.clips import Clip
from training.data.datasets import DataError, find_clips
from training.release.quantising import _divided

if TYPE_CHECKING:
    from typer.testing import Result

REFUSED, USAGE = 1, 2
SEEN = [f"{kind}/{kind}-{number}" for kind in CLASSES for number in range(4)]


def with_convolution(data: Path) -> Any:
    """The promotion tests' network after a convolution that leaves the image as it is."""
    unchanged = keras.layers.Conv2D(3, 1)
    layers = keras.Sequential([keras.Input((128, 301, 3)), unchanged, *network(data).layers])
    unchanged.set_weights([np.eye(3).reshape(1, 1, 3, 3), np.zeros(3)])
    return layers


@pytest.fixture(scope="module")
def version(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version that names every clip right and was trained on half of them; tests copy it."""
    record = {TRAINING_FILE: json.dumps({"recordings": SEEN})}
    return export_saved_model(with_convolution(data), CLASSES, tmp_path_factory.mktemp("models") / "1", extra=record)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def base_path(version: Path, tmp_path: Path) -> Path:
    shutil.copytree(version, tmp_path / "models" / "1")
    return tmp_path / "models"


@pytest.fixture(autouse=True)
def _measures_on_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.release.quantising, "MEASURED", 6)


def quantize(base_path: Path, data: Path, cache: Path, *more: str) -> Result:
    words = ["models", "quantize", "--model-base-path", str(base_path), "--data", str(data), *more]
    return CliRunner().invoke(app, words, env={"EARSHOT_CACHE": str(cache), "COLUMNS": "200"})


def test_a_version_is_measured_on_what_it_saw_compared_on_what_it_did_not_and_then_served(
    base_path: Path, data: Path, cache: Path
) -> None:
    done = quantize(base_path, data, cache)
    assert done.exit_code == 0, done.output
    unseen = CLIPS_EACH * len(CLASSES) - len(SEEN)
    assert f"Of {unseen} clips that the model was not trained on, 8 bits name 100.0% as float32 does" in done.output
    assert f"wrote {base_path / '1' / INT8_FILE}" in done.output
    made = Int8.read(base_path / "1")
    assert (made.calibrated_on, made.clips, made.unseen, made.accuracy_float32) == (6, unseen, True, 1.0)
    OpenVinoEngine(base_path / "1", Precision.INT8, cache)


def test_a_version_that_does_not_say_what_it_saw_is_compared_on_other_clips_than_it_is_measured_on(
    base_path: Path, data: Path, cache: Path
) -> None:
    (base_path / "1" / TRAINING_FILE).unlink()
    done = quantize(base_path, data, cache, "--version", "1")
    assert done.exit_code == 0, done.output
    made = Int8.read(base_path / "1")
    assert made.unseen is False
    assert made.calibrated_on + made.clips == CLIPS_EACH * len(CLASSES)
    assert min(made.calibrated_on, made.clips) >= 4


def test_clips_of_one_recording_are_not_on_both_sides() -> None:
    clips = [Clip(Path(f"{number}.wav"), "hum", 1, str(number // 10)) for number in range(100)]
    parts = _divided(clips, None, frozenset())
    assert not {clip.source for clip in parts.measured} & {clip.source for clip in parts.compared}
    most = training.release.quantising.MEASURED
    assert (len(parts.measured), len(parts.compared), parts.unseen) == (most, 90, False)
    with pytest.raises(DataError, match="all of these clips are of one recording"):
        _divided(clips[:10], None, frozenset())


def test_what_the_weights_have_heard_is_no_news_either() -> None:
    clips = [Clip(Path(f"{number}.wav"), "hum", 1, str(number // 10)) for number in range(100)]
    parts = _divided(clips, frozenset("012"), frozenset("345"))
    assert {clip.source for clip in parts.measured} == set("012")
    assert ({clip.source for clip in parts.compared}, parts.unseen) == (set("6789"), True)


def test_a_clip_that_could_not_be_read_when_it_was_trained_is_not_what_it_is_compared_on(
    base_path: Path, data: Path, cache: Path
) -> None:
    readable = [clip.source for clip in find_clips(data) if f"{clip.source}.wav" not in BROKEN]
    (base_path / "1" / TRAINING_FILE).write_text(json.dumps({"recordings": readable}))
    done = quantize(base_path, data, cache)
    assert done.exit_code == 0, done.output
    made = Int8.read(base_path / "1")
    assert made.unseen is False
    assert made.clips >= 10


def test_too_little_agreement_is_refused_and_nothing_is_written(
    base_path: Path, data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving.engines.int8, "LEAST_AGREEMENT", 1.01)
    done = quantize(base_path, data, cache)
    assert done.exit_code == REFUSED
    assert "serve it with --precision bf16 or f32" in done.output
    assert not (base_path / "1" / INT8_FILE).exists()


def test_clips_that_the_model_was_not_trained_on_alone_are_refused(base_path: Path, data: Path, cache: Path) -> None:
    record = base_path / "1" / TRAINING_FILE
    record.write_text(json.dumps({"recordings": ["another"]}))
    done = quantize(base_path, data, cache)
    assert done.exit_code == USAGE
    assert "was trained on none of these clips" in done.output


@pytest.mark.parametrize(
    ("more", "said"), [(("--version", "7"), "there are: 1"), (("--class-map", "none.csv"), "none.csv")]
)
def test_what_is_not_there_is_named(base_path: Path, data: Path, cache: Path, more: tuple[str, ...], said: str) -> None:
    done = quantize(base_path, data, cache, *more)
    assert done.exit_code == USAGE
    assert said in done.output
