"""Judging a model from end to end: a small exported one, in its folder and behind the real embedded server."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
import soundfile
import tensorflow as tf
import typer
from rich.console import Console

from earshot.audio import windows
from earshot.labels import UNKNOWN
from earshot.settings import SettingsError
from earshot.spectrogram import spectrogram
from processors.predictor import PredictError
from serving.export import export_saved_model
from serving.layout import TRAINING_FILE
from tests.serving.conftest import serve
from tests.training.conftest import BROKEN, CLASSES, CLIPS_EACH, run_file
from training.data.clips import load_clip
from training.data.datasets import DataError, find_background, find_clips
from training.evaluate import evaluate, run
from training.evaluation import judged
from training.evaluation.judged import ModelChanged, saved_model, served_model
from training.settings import EvaluateSettings

CLIPS = CLIPS_EACH * len(CLASSES)
QUIET = Console(quiet=True)
LEAST_OF_WHISTLE = 0.999
"""The model's threshold of this class; it has none for the others."""


def network(classes: int = len(CLASSES)) -> Any:
    """Hears pitch: which third of the mel bands is brightest. Right of most of the synthetic sounds."""
    image = keras.Input((128, 301, 3))
    bands = keras.ops.mean(image, axis=(2, 3)) / 255.0
    low, high = keras.ops.mean(bands[:, :20], axis=1), keras.ops.mean(bands[:, 80:], axis=1)
    columns = [keras.ops.minimum(low, high) * 2 - 0.1, low - high, high - low, low * 0 - 1]
    return keras.Model(image, keras.ops.softmax(20 * keras.ops.stack(columns[:classes], axis=1)))


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judged") / "models" / "7"
    return export_saved_model(network(), CLASSES, folder, thresholds=(0.0, 0.0, LEAST_OF_WHISTLE))


@pytest.fixture(scope="module")
def sounds(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic clips, and one that is longer than a segment."""
    folder = tmp_path_factory.mktemp("sounds") / "sounds"
    shutil.copytree(data, folder)
    long = np.tile(load_clip(data / "hum" / "hum-0.wav"), 16)
    soundfile.write(folder / "hum" / "long.wav", long, 16_000)
    return folder


def read(**options: Any) -> EvaluateSettings:
    return EvaluateSettings.read(
        {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    )


def test_a_folder_is_judged_as_its_graph_answers(version: Path, sounds: Path) -> None:
    report = evaluate(read(data=sounds, model=version, batch=5), QUIET)
    graph = tf.saved_model.load(str(version)).signatures["serving_default"]
    rows = {row["clip"]: row for fold in report["folds"].values() for row in fold["answers"]}
    assert len(rows) == report["clips"] == CLIPS + 1
    for clip in find_clips(sounds):
        if clip.path.name in rows:
            images = np.stack([spectrogram(window) for window in windows(load_clip(clip.path))])
            scores = graph(spectrogram=tf.constant(images))["scores"].numpy()
            row = rows[clip.path.name]
            assert (row["truth"], row["segment"]) == (clip.label, CLASSES[scores[0].argmax()])
            assert row["score"] == pytest.approx(scores[0].max(), abs=1e-3)
            assert row["clip_mean"] == CLASSES[scores.mean(axis=0).argmax()]
    assert report["pooled"]["accuracy"] > 0.9
    unsure = [row for row in rows.values() if row["segment"] == "whistle" and row["score"] < LEAST_OF_WHISTLE]
    assert {row["clip"] for row in rows.values() if row["label"] == UNKNOWN} == {row["clip"] for row in unsure}
    assert report["pooled"]["unknown"]["share"] == pytest.approx(len(unsure) / len(rows), abs=1e-3)
    assert report["title"] == "Evaluation of models, version 7"
    assert sorted(line.count(name) for line in report["unreadable"] for name in BROKEN) == [0, 0, 1, 1]


def test_a_server_a_version_and_a_base_path_are_judged_alike(version: Path, sounds: Path) -> None:
    folder = evaluate(read(data=sounds, model=version), QUIET)
    base = evaluate(read(data=sounds, model=version.parent, batch=1), QUIET)
    with serve(version.parent) as server:
        server.wait_until_available(7)
        served = evaluate(read(data=sounds, model_server=server.address), QUIET)
    assert served["title"] == f"Evaluation of earshot at {server.address}, version 7"
    for other in (base, served):
        assert other["class_names"] == folder["class_names"] == CLASSES
        assert [without_scores(one) for one in other["folds"].values()] == [
            without_scores(one) for one in folder["folds"].values()
        ]
        assert other["pooled"]["unknown"] == folder["pooled"]["unknown"] is not None
        assert other["pooled"]["calibration"]["ece"] == pytest.approx(folder["pooled"]["calibration"]["ece"], abs=1e-3)


def without_scores(fold: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(row["clip"], row["segment"], row["clip_mean"]) for row in fold["answers"]]


def test_the_command_prints_figures_and_writes_both_files(
    version: Path, sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(read(data=sounds, model=version, report=tmp_path / "report.html", threshold=0.9))
    report = json.loads((tmp_path / "report.json").read_text())
    page = (tmp_path / "report.html").read_text()
    said = capsys.readouterr().out
    assert "2 clips could not be read; they are in the report" in said
    assert f"{CLIPS + 1} clips: first 3 s {report['pooled']['accuracy']:.1%} right" in said
    pooled = report["pooled"]
    assert f"labels: {pooled['labels_right']:.1%} right, {pooled['unknown']['share']:.1%} unknown" in said
    assert pooled["labels_right"] < pooled["accuracy"]
    right = f"{pooled['labels_right']:.1%}".replace("%", "\N{NO-BREAK SPACE}%")
    assert f"<b>{right}</b><span>labels right" in page
    assert str(tmp_path / "report.html") in said.replace("\n", "")
    assert all(row["clip"] in page for fold in report["folds"].values() for row in fold["answers"])


def test_a_report_that_cannot_be_written_in_the_end_is_printed(
    version: Path, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.evaluate.write_report", full)
    with pytest.raises(typer.Exit) as ended:
        run(read(data=sounds, model=version, report=tmp_path / "report.html"))
    said = capsys.readouterr()
    assert (ended.value.exit_code, "No space left on device" in said.err) == (2, True)
    assert json.loads(said.out[said.out.index("\n{\n") :])["pooled"]["clips"] == CLIPS + 1


def test_ctrl_c_says_that_nothing_was_written(
    version: Path, sounds: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupts(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.evaluate.ask", interrupts)
    with pytest.raises(typer.Exit) as ended:
        run(read(data=sounds, model=version))
    assert ended.value.exit_code == 130
    assert "nothing was written" in capsys.readouterr().err


def test_a_model_that_is_judged_on_what_it_was_trained_on_says_so(
    version: Path, sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(version, tmp_path / "7")
    seen = sorted({clip.source for clip in find_clips(sounds) if clip.path.stem.startswith("hum-")})
    shutil.copytree(sounds / "hiss", tmp_path / "room")
    heard_too = [clip.source for clip in find_background([tmp_path / "room"])]
    (tmp_path / "7" / TRAINING_FILE).write_text(json.dumps({"recordings": [*seen, *heard_too]}))
    run(read(data=sounds, model=tmp_path / "7", background=tmp_path / "room"))
    assert f"trained on the recordings of {len(seen)} of these {CLIPS + 1} clips" in capsys.readouterr().out
    run(read(data=sounds, model=version))
    said = capsys.readouterr().out
    assert "too kind" not in said
    assert "The model does not say what it was trained on" in said


def test_background_alone_judges_no_model(version: Path, sounds: Path, tmp_path: Path) -> None:
    (tmp_path / "map.csv").write_text("label,class\n*,unknown\n")
    with pytest.raises(DataError, match="all clips are of background"):
        evaluate(read(data=sounds, model=version, class_map=tmp_path / "map.csv"), QUIET)


def test_only_the_folds_that_were_asked_for_are_judged(version: Path, sounds: Path) -> None:
    folds = sorted({clip.fold for clip in find_clips(sounds) if clip.path.stem.startswith("hum-")})
    report = evaluate(read(data=sounds, model=version, folds=str(folds[0])), QUIET)
    assert list(report["folds"]) == [str(folds[0])]
    assert report["clips"] == report["pooled"]["clips"] == report["folds"][str(folds[0])]["clips"] < CLIPS


def test_one_class_is_enough_and_one_that_the_model_does_not_know_counts_as_wrong(
    version: Path, sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hum").mkdir()
    shutil.copy(sounds / "hum" / "hum-0.wav", tmp_path / "hum")
    assert evaluate(read(data=tmp_path, model=version), QUIET)["pooled"]["accuracy"] == 1.0
    (tmp_path / "siren").mkdir()
    shutil.copy(sounds / "hum" / "hum-1.wav", tmp_path / "siren")
    run(read(data=tmp_path, model=version))
    said = capsys.readouterr().out
    assert "The model does not know siren: 1 clips count as wrong." in said
    assert "50.0% right" in said


def test_a_server_that_changes_its_model_meanwhile_is_found_out(version: Path, tmp_path: Path) -> None:
    shutil.copytree(version, tmp_path / "models" / "7")
    silence = np.zeros((1, *judged.IMAGE_SHAPE), np.uint8)
    with serve(tmp_path / "models") as server:
        server.wait_until_available(7)
        with served_model(server.address, "earshot") as model:
            assert model.scores(silence).shape == (1, 3)
            shutil.copytree(version, tmp_path / "models" / "8")
            server.wait_until_available(8)
            with pytest.raises(ModelChanged, match="went from version 7 to 8 meanwhile; start again"):
                model.scores(silence)


def test_the_highest_version_of_a_base_path_is_taken(version: Path, tmp_path: Path) -> None:
    for name in ("9", "10"):
        shutil.copytree(version, tmp_path / name)
    with saved_model(tmp_path) as model:
        assert (model.name, model.version) == (tmp_path.name, 10)


def test_a_model_outside_a_numbered_folder_goes_by_the_name_of_its_own(version: Path, tmp_path: Path) -> None:
    shutil.copytree(version, tmp_path / "sirens")
    with saved_model(tmp_path / "sirens") as model:
        assert (model.name, model.version) == ("sirens", 0)


def test_a_model_of_another_input_or_output_is_named(tmp_path: Path, sounds: Path) -> None:
    module = tf.Module()
    image = tf.TensorSpec([None, 64, 301, 1], tf.uint8, name="spectrogram")
    narrow = tf.function(lambda spectrogram: {"scores": spectrogram[:, 0, :3, 0]}, input_signature=[image])
    tf.saved_model.save(module, str(tmp_path / "narrow"), {"serving_default": narrow})
    image = tf.TensorSpec([None, 128, 301, 3], tf.uint8, name="spectrogram")
    nameless = tf.function(lambda spectrogram: {"scores": spectrogram[:, 0, :3, 0]}, input_signature=[image])
    tf.saved_model.save(module, str(tmp_path / "nameless"), {"serving_default": nameless})
    for name, words in (("narrow", r"takes a spectrogram of shape \[-1, 64, 301, 1\]"), ("nameless", "lacks classes")):
        with pytest.raises(PredictError, match=words):
            evaluate(read(data=sounds, model=tmp_path / name), QUIET)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data": None}, "no clips: --data names"),
        ({"data": Path("nowhere")}, "nowhere is not a folder"),
        ({"model": None}, "name one model: --model takes a folder"),
        ({"model_server": "localhost:1"}, "name one model: --model takes a folder"),
        ({"model": Path("nowhere")}, "nowhere holds neither a saved_model.pb nor a numeric version folder"),
        ({"folds": "none"}, "--folds none leaves no clip"),
        ({"folds": "77"}, "no clip in fold 77"),
        ({"report": Path("nowhere/report.html"), "model": Path("nowhere")}, "cannot write nowhere/report.json"),
    ],
)
def test_what_a_user_can_mend_ends_with_status_2_and_says_how(
    version: Path, sounds: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(typer.Exit) as ended:
        run(read(**{"data": sounds, "model": version, **options}))
    assert ended.value.exit_code == 2
    assert words in capsys.readouterr().err


def test_a_url_is_no_address_of_a_server() -> None:
    with pytest.raises(SettingsError, match=r"\(--model-server\) cannot be 'http://localhost:8501': .* as host:port"):
        read(model_server="http://localhost:8501")


def test_data_without_a_class_of_the_models_is_refused_with_both_lists(
    version: Path, sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("fox", "owl"):
        (tmp_path / name).mkdir()
        shutil.copy(sounds / "hum" / "hum-0.wav", tmp_path / name)
    with pytest.raises(typer.Exit):
        run(read(data=tmp_path, model=version))
    assert "the clips are of fox, owl, and models knows none of them but hiss, hum, whistle" in capsys.readouterr().err


def test_clips_of_which_none_can_be_read_are_named(version: Path, tmp_path: Path) -> None:
    (tmp_path / "hum").mkdir()
    (tmp_path / "hum" / "corrupt.wav").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"none of 1 clips can be read: .*corrupt\.wav"):
        evaluate(read(data=tmp_path, model=version), QUIET)


def test_a_broken_model_is_named(version: Path, sounds: Path, tmp_path: Path) -> None:
    shutil.copytree(version, tmp_path / "1")
    (tmp_path / "1" / "variables" / "variables.index").unlink(missing_ok=True)
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"\x08\x01")
    with pytest.raises(ValueError, match="holds no SavedModel that loads"):
        evaluate(read(data=sounds, model=tmp_path), QUIET)


def test_a_server_that_is_away_is_said_in_seconds(
    sounds: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(judged, "WAIT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(typer.Exit):
        run(read(data=sounds, model_server=f"127.0.0.1:{port}"))
    assert f"no model earshot answers at 127.0.0.1:{port} within 1 s; is the server running" in capsys.readouterr().err


def test_the_file_runs_as_a_command(tmp_path: Path) -> None:
    done = run_file("evaluate.py", "--data", str(tmp_path / "nowhere"), cwd=tmp_path)
    assert done.returncode == 2
    assert "nowhere is not a folder" in done.stderr
    assert "Traceback" not in done.stderr
