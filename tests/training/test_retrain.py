"""Retraining from end to end: on synthetic sounds with random weights, and on real clips where they are at hand."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tensorflow as tf
import typer
from rich.console import Console

from earshot.audio import fit_segment
from earshot.spectrogram import spectrogram
from serving.catalogue import versions
from serving.compact import load_compact
from serving.layout import TRAINING_FILE
from tests.producers.sounds import noise
from tests.training.conftest import BROKEN, CLASSES, CLIPS_EACH
from training.clips import load_clip
from training.datasets import DataError, find_clips
from training.fairness import recordings_seen
from training.head import train_head
from training.retrain import retrain, run
from training.settings import RetrainSettings

CLIPS = CLIPS_EACH * len(CLASSES)
QUIET = Console(quiet=True)
ROOT = Path(__file__).parents[2]


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
        "cache": folder / "cache",
        "report": folder / "report.json",
        "run_dir": folder / "runs",
        "model_base_path": folder / "models" / "earshot",
        "compact": folder / "compact.npz",
    }
    run(RetrainSettings.read(settings))
    return Trained(settings, json.loads((folder / "report.json").read_text()), folder / "models" / "earshot")


def test_the_report_names_classes_clips_and_those_that_cannot_be_read(trained: Trained) -> None:
    report = trained.report
    assert tuple(report["class_names"]) == CLASSES
    assert report["clips"] == CLIPS
    assert len(report["unreadable"]) == len(BROKEN)
    assert all(any(name in line for line in report["unreadable"]) for name in BROKEN)
    assert report["weights"] == "random_u8.npz"
    assert list(report["seconds"]) == ["weights", "features", "evaluation", "publishing"]
    peaks = list(report["peak_memory_mb"].values())
    assert len(peaks) == 4
    assert peaks == sorted(peaks)
    assert 100 < peaks[0] < 20_000
    assert report["architecture"]["taps"] == ["mixed0"]


def test_every_clip_is_judged_once_in_its_own_fold(trained: Trained, data: Path) -> None:
    fold_of = {clip.path.name: clip.fold for clip in find_clips(data)}
    judged = {answer["clip"]: int(fold) for fold, one in trained.report["folds"].items() for answer in one["answers"]}
    assert sum(one["clips"] for one in trained.report["folds"].values()) == len(judged) == CLIPS
    assert judged == {name: fold_of[name] for name in judged}
    # Noise, a low tone and a high one differ even through random weights.
    right = sum(one["accuracy"] * one["clips"] for one in trained.report["folds"].values())
    assert right / CLIPS > 0.8


def test_a_random_split_is_judged_beside_the_folds(trained: Trained) -> None:
    split = trained.report["random_split"]
    assert split["clips"] == 1
    assert [answer["clip"] for answer in split["answers"]] == ["whistle-2.wav"]


def test_a_fold_is_judged_by_a_head_that_never_saw_it(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded on the way into the real training: which recordings each head was trained on."""
    seen: list[set[str]] = []

    def recording(features: Any, targets: Any, groups: list[str], *others: Any) -> Any:
        seen.append({Path(source).name for source in groups})
        return train_head(features, targets, groups, *others)

    monkeypatch.setattr("training.frozen.train_head", recording)
    again = {**trained.settings, "model_base_path": None, "compact": None, "protocol": "folds"}
    report = retrain(RetrainSettings.read(again), QUIET)
    assert len(seen) == len(report["folds"]) > 1
    for sources, one in zip(seen, report["folds"].values(), strict=True):
        unseen = {Path(answer["clip"]).stem for answer in one["answers"]}
        assert unseen
        assert not sources & unseen
        assert len(sources | unseen) == CLIPS


def test_versions_count_up_a_run_that_reads_the_cache_says_the_same_and_plain_tensorflow_serves_both(
    trained: Trained, data: Path
) -> None:
    again = retrain(RetrainSettings.read({**trained.settings, "compact": None}), QUIET)
    assert json.loads(json.dumps(again["folds"])) == trained.report["folds"]
    assert again["unreadable"] == trained.report["unreadable"]
    assert sorted(path.name for path in trained.model_base_path.iterdir()) == ["1", "2"]

    segment = fit_segment(load_clip(data / "whistle" / "whistle-0.wav"))
    scores = []
    for version in ("1", "2"):
        loaded = tf.saved_model.load(str(trained.model_base_path / version))
        answer = loaded.signatures["serving_default"](spectrogram=tf.constant(spectrogram(segment)[np.newaxis]))
        names = [name.decode() for name in answer["classes"].numpy()[0]]
        assert tuple(names) == CLASSES
        assert names[int(answer["scores"].numpy()[0].argmax())] == "whistle"
        from_pcm = loaded.signatures["pcm"](pcm=tf.constant(segment[np.newaxis]))
        np.testing.assert_allclose(from_pcm["scores"].numpy(), answer["scores"].numpy(), atol=1e-2)
        scores.append(answer["scores"].numpy())
        card = (trained.model_base_path / version / "assets.extra" / "card.md").read_text()
        assert f"{CLIPS} clips of 3 classes. It was trained on every clip." in card
    np.testing.assert_allclose(scores[1], scores[0], atol=1e-5)
    assert load_compact(trained.settings["compact"]).class_names == CLASSES


def test_a_version_says_what_it_was_made_from_and_which_recordings_it_saw(trained: Trained, data: Path) -> None:
    record = json.loads((trained.model_base_path / "1" / TRAINING_FILE).read_text())
    assert record["recordings"] == sorted(
        clip.source for clip in find_clips(data) if f"{clip.source}.wav" not in BROKEN
    )
    assert (record["clips"], record["hold_out"], record["held_out"], record["data"]) == (CLIPS, [], None, [data.name])
    figures = {fold: (one["clips"], one["accuracy"]) for fold, one in trained.report["folds"].items()}
    assert {fold: (one["clips"], one["accuracy"]) for fold, one in record["folds"].items()} == figures
    assert record["settings"] == {
        "method": "bottlenecks",
        "epochs": 30,
        "how_many_training_steps": 0,
        "learning_rate": 4e-4,
        "balance": False,
        "precision": 0.5,
        "batch": 16,
        "seed": 0,
        "evaluate": "all",
        "generated_background": 0,
        "patience": 0,
        "noise": 0.0,
    }
    assert record["recipe"] == "logistic regression on frozen features"
    assert (record["architecture"]["taps"], record["architecture"]["bands"]) == (["mixed0"], 2)
    assert record["packages"] == trained.report["packages"]
    assert str(data) not in json.dumps(record)  # a model goes elsewhere, and there no one needs paths of this machine
    (listed,) = [version for version in versions(trained.model_base_path) if version.number == 1]
    assert listed.judged_on == "folds"
    assert listed.accuracy is not None


def test_folds_that_are_held_out_are_judged_and_named_in_the_card(trained: Trained, data: Path, tmp_path: Path) -> None:
    fold = next(iter(trained.report["folds"]))
    own = {**trained.settings, "evaluate": "none", "hold_out": fold, "model_base_path": tmp_path}
    report = retrain(RetrainSettings.read(own), QUIET)
    assert report["folds"] == {}
    assert report["held_out"] == trained.report["folds"][fold]
    card = load_compact(trained.settings["compact"]).card
    assert f"It never saw folds [{fold}]. Of their {report['held_out']['clips']} clips it names" in card
    (version,) = versions(tmp_path)
    assert (version.accuracy, version.judged_on) == (report["held_out"]["accuracy"], "held out")
    unseen = {clip.source for clip in find_clips(data) if str(clip.fold) == fold}
    assert unseen
    seen = recordings_seen(version.folder)
    assert seen
    assert not seen & unseen


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data": ""}, "no clips: --data names"),
        ({"data": "nowhere"}, "nowhere is not a folder"),
        ({"weights": "nowhere.npz"}, "nowhere.npz is no file"),
        ({"evaluate": "one"}, "folds are numbers separated by commas, not 'one'"),
        # With weights that are not there, to see that it is said before the long work.
        ({"evaluate": "77", "weights": "nowhere.npz"}, "no clip in fold 77"),
        ({"report": Path("nowhere/report.json"), "weights": "nowhere.npz"}, "cannot write nowhere/report.json"),
        ({"compact": Path("nowhere/model.npz"), "weights": "nowhere.npz"}, "cannot write nowhere/model.npz"),
        ({"model_base_path": Path(__file__), "weights": "nowhere.npz"}, f"File exists: '{__file__}'"),
        ({"model_base_path": Path(__file__) / "models", "weights": "nowhere.npz"}, "Not a directory"),
        ({"hold_out": "1,2,3,4,5", "weights": "nowhere.npz"}, "name fewer folds with --evaluate and --hold-out"),
        ({"taps": "mixed99"}, "not mixed99"),
    ],
)
def test_what_a_user_can_mend_ends_with_status_2_and_says_how(
    trained: Trained, capsys: pytest.CaptureFixture[str], options: dict[str, Any], words: str
) -> None:
    folds = sorted(int(fold) for fold in trained.report["folds"])
    if "hold_out" in options:
        options = {**options, "hold_out": ",".join(map(str, folds))}
    with pytest.raises(typer.Exit) as ended:
        run(RetrainSettings.read({**trained.settings, "model_base_path": None, "evaluate": "none", **options}))
    assert ended.value.exit_code == 2
    assert words in capsys.readouterr().err


def test_a_report_that_cannot_be_written_in_the_end_is_printed(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder vanishes while the real training goes on."""
    (tmp_path / "out").mkdir()

    def meanwhile(*arguments: Any) -> Any:
        (tmp_path / "out").rmdir()
        return train_head(*arguments)

    monkeypatch.setattr("training.frozen.train_head", meanwhile)
    fold, report = next(iter(trained.report["folds"])), tmp_path / "out" / "report.json"
    own = {
        **trained.settings,
        "model_base_path": None,
        "compact": None,
        "report": report,
        "evaluate": fold,
        "protocol": "folds",
    }
    with pytest.raises(typer.Exit) as ended:
        run(RetrainSettings.read(own))
    assert ended.value.exit_code == 2
    said = capsys.readouterr()
    assert f"cannot write {report} (No such file or directory)" in said.err
    assert json.loads(said.out[said.out.index("{") :])["folds"] == {fold: trained.report["folds"][fold]}


def test_a_run_leaves_its_folder_too(trained: Trained) -> None:
    folder = min(trained.settings["run_dir"].iterdir())  # other tests run it again
    assert folder.name == trained.report["started"].replace(":", "-")
    for name in ("report.json", "report.html"):
        assert (folder / name).read_text() == trained.settings["report"].with_name(name).read_text()
    assert json.loads((folder / "settings.json").read_text())["seed"] == 0
    assert "tensorflow-cpu" in (folder / "packages.json").read_text()


def test_the_report_is_a_page_too_and_pools_the_folds(trained: Trained) -> None:
    pooled = trained.report["pooled"]
    right = sum(one["accuracy"] * one["clips"] for one in trained.report["folds"].values())
    assert (pooled["clips"], pooled["accuracy"]) == (CLIPS, pytest.approx(right / CLIPS, abs=1e-3))
    page = trained.settings["report"].with_suffix(".html").read_text()
    assert "Retraining on " in page
    assert all(answer["clip"] in page for one in trained.report["folds"].values() for answer in one["answers"])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("1,1,hum", "1,1,hiss"), "1 recordings of 2 classes, training needs two of two"),
        (("1,1,hum", "2,1,hum", "3,2,hiss"), "2 recordings of 1 classes outside fold 2, training needs two of two"),
    ],
)
def test_too_few_classes_or_recordings_are_said_before_the_long_work(
    tmp_path: Path, names: tuple[str, ...], words: str
) -> None:
    (tmp_path / "metadata").mkdir()
    table = ["slice_file_name,fsID,fold,class"]
    for number, row in enumerate(names):
        place = tmp_path / "audio" / f"fold{row.split(',')[1]}" / f"{number}.wav"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
        table.append(f"{place.name},{row}")
    (tmp_path / "metadata" / "UrbanSound8K.csv").write_text("\n".join(table))
    evaluate = "2" if "outside" in words else "none"
    settings = {
        "data": str(tmp_path),
        "weights": "nowhere.npz",
        "evaluate": evaluate,
        "compact": tmp_path / "compact.npz",
    }
    with pytest.raises(DataError, match=words):
        retrain(RetrainSettings.read(settings), QUIET)


def test_a_fold_of_which_no_clip_can_be_read_is_named(tmp_path: Path, weights_file: Path) -> None:
    (tmp_path / "metadata").mkdir()
    rows = []
    for fold in (1, 2, 3):
        (tmp_path / "audio" / f"fold{fold}").mkdir(parents=True)
        for kind in ("hum", "hiss"):
            path = tmp_path / "audio" / f"fold{fold}" / f"{fold}-{kind}.wav"
            soundfile.write(path, noise(1.0, -20.0, seed=fold), 16_000) if fold < 3 else path.write_bytes(b"broken")
            rows.append(f"{path.name},{fold}{kind},{fold},{kind}")
    table = "\n".join(["slice_file_name,fsID,fold,class", *rows])
    (tmp_path / "metadata" / "UrbanSound8K.csv").write_text(table)
    settings = {"data": str(tmp_path), "weights": str(weights_file), "cache": tmp_path / "cache", "evaluate": "3"}
    with pytest.raises(DataError, match=r"no clip of a class in fold 3 can be read.*3-h\w+\.wav"):
        retrain(RetrainSettings.read({**settings, "taps": "mixed0", "bands": "1"}), QUIET)


def test_the_file_runs_as_a_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "training" / "retrain.py"), "--data", str(tmp_path / "nowhere")],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "nowhere is not a folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_real_clips_and_weights_are_told_apart_on_unseen_folds(tmp_path: Path) -> None:
    folder, weights = os.environ.get("EARSHOT_URBANSOUND8K"), os.environ.get("EARSHOT_INCEPTION_WEIGHTS")
    if not folder or not weights:
        pytest.skip("EARSHOT_URBANSOUND8K and EARSHOT_INCEPTION_WEIGHTS name no clips and weights")
    chosen = _some(Path(folder), tmp_path, kinds=("dog_bark", "gun_shot", "street_music"), each=7)
    settings = {"data": str(tmp_path), "weights": weights, "cache": tmp_path / "cache", "evaluate": "1,2"}
    report = retrain(RetrainSettings.read(settings), QUIET)
    assert report["clips"] == chosen == 42
    assert all(one["accuracy"] > 0.6 for one in report["folds"].values()), report["folds"]


def _some(folder: Path, into: Path, kinds: tuple[str, ...], each: int) -> int:
    """Link `each` clips of each class from folds 1 and 2, each of another recording where there are so many."""
    with (folder / "metadata" / "UrbanSound8K.csv").open(newline="") as table:
        rows = [row for row in csv.DictReader(table) if row["fold"] in {"1", "2"} and row["class"] in kinds]
    taken: dict[tuple[str, str], list[dict[str, str]]] = {}
    heard: dict[str, int] = {}
    for row in rows:
        heard[row["fsID"]] = heard.get(row["fsID"], 0) + 1
        row["rank"] = str(heard[row["fsID"]])
    for row in sorted(rows, key=lambda row: int(row["rank"])):
        own = taken.setdefault((row["fold"], row["class"]), [])
        if len(own) < each:
            own.append(row)
    (into / "metadata").mkdir()
    with (into / "metadata" / "UrbanSound8K.csv").open("w", newline="") as table:
        writer = csv.DictWriter(table, list(rows[0]))
        writer.writeheader()
        writer.writerows(row for own in taken.values() for row in own)
    for row in (row for own in taken.values() for row in own):
        place = Path("audio") / f"fold{row['fold']}"
        (into / place).mkdir(parents=True, exist_ok=True)
        for clip in (folder / place).glob(f"{Path(row['slice_file_name']).stem}.*"):
            (into / place / clip.name).symlink_to(clip)
    return sum(map(len, taken.values()))


def test_fine_tuning_is_judged_calibrated_and_published_like_a_head(
    data: Path, weights_file: Path, tmp_path: Path
) -> None:
    settings = {
        "data": str(data),
        "weights": str(weights_file),
        "cache": tmp_path / "cache",
        "method": "finetune",
        "taps": "mixed0",
        "bands": 1,
        "shrink": "2,4",
        "epochs": 9,
        "how_many_training_steps": 2,  # an epoch has one
        "learning_rate": 1e-3,
        "evaluate": "1",
        "model_base_path": tmp_path / "models" / "earshot",
    }
    report = retrain(RetrainSettings.read(settings), QUIET)
    assert report["recipe"] == "all blocks fine-tuned for 2 steps, to a whole epoch"
    assert list((tmp_path / "cache" / "finetuning").iterdir()) == []
    assert report["architecture"]["shrink"] == (2, 4)
    curves = [(one["epoch"], *sorted(one.keys() - {"epoch"})) for one in report["learning_curves"]]
    whose = [(epoch, model) for model in ("fold 1", "published model") for epoch in (1, 2)]
    names = ("loss", "rate", "val_accuracy", "val_loss")
    assert curves == [(epoch, *(f"{name}, {model}" for name in names)) for epoch, model in whose]
    judged = report["folds"]["1"]
    assert judged["temperature"] != 1.0
    assert judged["calibration_before"]["nll"] != judged["calibration"]["nll"]
    served = tf.saved_model.load(str(tmp_path / "models" / "earshot" / "1")).signatures["pcm"]
    answer = served(pcm=tf.constant(fit_segment(load_clip(data / "whistle" / "whistle-0.wav"))[None]))
    assert answer["scores"].shape == (1, len(CLASSES))
    assert float(tf.reduce_sum(answer["scores"])) == pytest.approx(1, abs=1e-5)
