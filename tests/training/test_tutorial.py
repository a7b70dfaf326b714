"""The tutorial's two commands, spelt as it spells them, end in a model that is served."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from earshot.cli import main
from earshot.labels import UNKNOWN
from serving.catalogue import versions
from tests.training.conftest import BROKEN, CLASSES, CLIPS_EACH
from training import spectrograms
from training.data.datasets import DataError
from training.preflight import check_before
from training.settings import RetrainSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CLIPS = CLIPS_EACH * len(CLASSES)
NOISES = 60
"""That are made and learnt beside them, where nothing else is asked for."""


def succeeds(command: Callable[[list[str]], Any], *words: object) -> None:
    with pytest.raises(SystemExit) as ended:
        command([str(word) for word in words])
    assert ended.value.code == 0


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Step and value of each scalar of one run, as TensorBoard reads them."""
    events = EventAccumulator(str(run), size_guidance={"tensors": 0}).Reload()
    return {
        tag: [(event.step, float(make_ndarray(event.tensor_proto))) for event in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
    }


def test_pictures_are_retrained_on_under_the_tutorials_flags(
    data: Path, weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KERAS_HOME", "elsewhere")
    succeeds(spectrograms.app, data, tmp_path / "pictures")
    words = [
        *("--image_dir", tmp_path / "pictures"),
        *("--bottleneck_dir", tmp_path / "bottlenecks"),
        *("--how_many_training_steps", 500),
        *("--model_dir", tmp_path / "inception"),
        *("--summaries_dir", tmp_path / "summaries"),
        *("--output_labels", tmp_path / "labels.txt"),
        *("--model_base_path", tmp_path / "models" / "earshot"),
        *("--weights", weights_file, "--taps", "mixed0", "--bands", 2, "--evaluate", 1),
        *("--report", tmp_path / "[new].json"),
    ]
    succeeds(main, "retrain", *words)
    assert f"wrote {tmp_path / '[new].json'}\n" in capsys.readouterr().out
    assert (tmp_path / "labels.txt").read_text().split() == sorted([*CLASSES, UNKNOWN])
    assert len(list((tmp_path / "bottlenecks").rglob("*.npy"))) == CLIPS + NOISES
    assert os.environ["KERAS_HOME"] == str(tmp_path / "inception")
    (version,) = versions(tmp_path / "models" / "earshot")
    assert version.number == 1
    assert {run.name for run in (tmp_path / "summaries").iterdir()} == {"fold-1", "published-model"}
    chosen = {"chosen/strength", "chosen/inner_accuracy"}
    assert set(scalars(tmp_path / "summaries" / "published-model")) == chosen
    said = scalars(tmp_path / "summaries" / "fold-1")
    measured = {"unseen/accuracy", "unseen/clip_accuracy", "unseen/calibration_error"}
    assert set(said) == measured | chosen
    assert said["unseen/accuracy"][0][1] > 0.8
    page = (tmp_path / "[new].html").read_text()
    assert "the clip can no longer be read" not in page
    assert f"{CLIPS} clips of 3 classes, {NOISES} of no class: {tmp_path / 'pictures'}" in page
    # The two clips that hold no sound have no picture.
    assert not any((tmp_path / "pictures" / name).with_suffix(".png").exists() for name in BROKEN)


def test_a_base_path_of_models_is_no_folder_for_inception(data: Path, tmp_path: Path) -> None:
    """What --model-dir named before it meant what it means in the tutorial."""
    (tmp_path / "7").mkdir()
    settings = RetrainSettings.read({"data": str(data), "model_dir": tmp_path})
    with pytest.raises(DataError, match="--model-base-path names where the next one goes"):
        check_before(settings, [], [], [])


def test_a_second_run_takes_the_place_of_the_first_ones_summaries(tmp_path: Path) -> None:
    from training.evaluation.summaries import write_summary
    from training.recipe import Trained

    figures = {"accuracy": 0.5, "clip_accuracy": 0.6, "calibration": {"ece": 0.1}}
    for losses in ([3.0, 2.0, 1.0], [2.5, 1.5]):
        history = tuple({"epoch": float(n), "loss": loss} for n, loss in enumerate(losses, start=1))
        trained = Trained((), None, 1.0, (), {}, history)  # type: ignore[arg-type]
        write_summary(tmp_path, "fold-1", trained, figures)
    said = scalars(tmp_path / "fold-1")
    assert said["training/loss"] == [(1, 2.5), (2, 1.5)]
    assert said["unseen/accuracy"] == [(2, 0.5)]


def test_summaries_that_cannot_be_written_are_an_error_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    from training.evaluation.summaries import write_summary
    from training.recipe import Trained

    def full(*_: object, **__: object) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.summary, "create_file_writer", full)
    trained = Trained((), None, 1.0, (), {}, ())  # type: ignore[arg-type]
    with pytest.raises(OSError, match=r"cannot write summaries to .*fold-1: No space left on device"):
        write_summary(tmp_path, "fold-1", trained, None)
