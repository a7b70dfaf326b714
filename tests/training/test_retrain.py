"""Retraining from end to end, on synthetic sounds with random weights: what a run says, and what it publishes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from earshot.audio import fit_segment
from earshot.spectrogram import spectrogram
from serving.catalogue import versions
from serving.compact import load_compact
from serving.layout import TRAINING_FILE
from tests.training.conftest import BROKEN, CLASSES, CLIPS, QUIET
from training.data.clips import load_clip
from training.data.datasets import find_clips
from training.evaluation.page import page
from training.heads.head import cross_validated, train_head
from training.retrain import retrain
from training.settings import RetrainSettings

if TYPE_CHECKING:
    from tests.training.conftest import Trained


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
    assert peaks[0] > 100
    assert report["architecture"]["taps"] == ["mixed0"]
    # Recordings that cannot be read do not count.
    assert report["thin_classes"] == dict.fromkeys(CLASSES, CLIPS // len(CLASSES))


def test_what_was_judged_is_in_the_report_before_the_model_is_published(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.retrain._publish", killed)
    file, said = tmp_path / "report.json", io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        retrain(RetrainSettings.read({**trained.settings, "protocol": "folds", "report": file}), Console(file=said))
    report = json.loads(file.read_text())
    assert report["folds"] == trained.report["folds"]
    assert report["title"] == f"{trained.report['title']} (not published yet)"
    assert "Of these few recordings can be read: hiss (8), hum (8)" in said.getvalue()
    for fold, figures in report["folds"].items():
        assert f"fold {fold}: {figures['accuracy']:.1%} of {figures['clips']} clips\n" in said.getvalue()
    assert file.with_suffix(".html").is_file()


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
    rows: list[Any] = []

    def asked(features: Any, targets: Any, weights: Any, groups: list[str], *others: Any, **more: Any) -> Any:
        seen.append({Path(source).name for source in groups})
        rows.append(features)
        return cross_validated(features, targets, weights, groups, *others, **more)

    def trained_on(features: Any, *others: Any, **more: Any) -> Any:
        np.testing.assert_array_equal(features, rows[-1])  # of the same recordings
        return train_head(features, *others, **more)

    monkeypatch.setattr("training.heads.frozen.cross_validated", asked)
    monkeypatch.setattr("training.heads.frozen.train_head", trained_on)
    again = {**trained.settings, "model_base_path": None, "compact": None, "protocol": "folds"}
    report = retrain(RetrainSettings.read(again), QUIET)
    assert len(seen) == len(report["folds"]) > 1
    for sources, one in zip(seen, report["folds"].values(), strict=True):
        unseen = {Path(answer["clip"]).stem for answer in one["answers"]}
        assert unseen
        assert not sources & unseen
        assert len(sources | unseen) == CLIPS


@pytest.mark.parametrize("evaluate", ["1", "none"])
def test_a_solver_that_is_stopped_is_said_once(
    trained: Trained, tmp_path: Path, recwarn: pytest.WarningsRecorder, evaluate: str
) -> None:
    said = io.StringIO()
    once: dict[str, Any] = {"model_base_path": None, "compact": tmp_path / "new.npz", "report": None, "run_dir": None}
    once |= {"protocol": "folds", "evaluate": evaluate, "how_many_training_steps": 1}
    settings = RetrainSettings.read({**trained.settings, **once})
    report = retrain(settings, Console(file=said, width=200))
    note = "The head's solver was stopped after 1 steps, before it came to its end."
    assert all(note in one["notes"] for one in report["folds"].values())
    assert note in report["notes"]
    assert said.getvalue().count(note) == 1
    assert page(report).count(note.replace("'", "&#x27;")) == 1 + len(report["folds"])
    assert note in load_compact(tmp_path / "new.npz").card
    assert not [one for one in recwarn if "lbfgs" in str(one.message)]


def test_a_version_that_another_run_published_meanwhile_is_left_and_the_next_number_taken(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = iter([tmp_path / "1", tmp_path / "2"])
    monkeypatch.setattr("training.release.publishing.next_version", lambda _: next(numbers))
    (tmp_path / "1").mkdir()
    said = io.StringIO()
    once: dict[str, Any] = {"model_base_path": tmp_path, "compact": None, "report": None, "run_dir": None}
    once |= {"protocol": "folds", "evaluate": "none"}
    report = retrain(RetrainSettings.read({**trained.settings, **once}), Console(file=said, width=200))
    assert report["published"] == str(tmp_path / "2")
    assert f"{tmp_path / '1'} appeared meanwhile; this model goes on to the next number" in said.getvalue()
    assert [path.name for path in sorted(tmp_path.iterdir()) if path.name[0] != "."] == ["1", "2"]
    assert not list((tmp_path / "1").iterdir())


def test_versions_count_up_a_run_that_reads_the_cache_says_the_same_and_plain_tensorflow_serves_both(
    trained: Trained, data: Path
) -> None:
    again = retrain(RetrainSettings.read({**trained.settings, "compact": None, "report": None}), QUIET)
    assert json.loads(json.dumps(again["folds"])) == trained.report["folds"]
    assert again["unreadable"] == trained.report["unreadable"]
    assert sorted(path.name for path in trained.model_base_path.iterdir()) == ["1", "2"]
    assert [one["published"] for one in (trained.report, again)] == [
        str(trained.model_base_path / number) for number in ("1", "2")
    ]

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
    assert (trained.settings["run_dir"] / record["run"] / "report.json").is_file()
    figures = {fold: (one["clips"], one["accuracy"]) for fold, one in trained.report["folds"].items()}
    assert {fold: (one["clips"], one["accuracy"]) for fold, one in record["folds"].items()} == figures
    assert record["settings"] == {
        "method": "bottlenecks",
        "epochs": 0,
        "how_many_training_steps": 0,
        "learning_rate": 0.0,
        "balance": False,
        "precision": 0.5,
        "batch": 16,
        "seed": 0,
        "evaluate": "all",
        "generated_background": 0,
        "patience": 0,
        "augment": None,
        "noise": 0.0,
        "freeze": "",
        "bfloat16": False,
    }
    assert record["recipe"] == "logistic regression on frozen features"
    assert (record["architecture"]["taps"], record["architecture"]["bands"]) == (["mixed0"], 2)
    assert record["packages"] == trained.report["packages"]
    assert str(data) not in json.dumps(record)  # a model goes elsewhere, and there no one needs paths of this machine
    (listed,) = [version for version in versions(trained.model_base_path) if version.number == 1]
    assert listed.judged_on == "folds"
    assert listed.accuracy is not None


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


def test_fine_tuning_is_judged_calibrated_and_published_like_a_head(
    data: Path, weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("heads.calibration", "finetuning.tuning"):
        monkeypatch.setattr(f"training.{module}.LEAST_CALIBRATING", 1)  # there are few recordings here
    settings = {
        "data": str(data),
        "weights": str(weights_file),
        "cache": tmp_path / "cache",
        "generated_background": 0,
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
    with capture_logs([merge_contextvars]) as lines:
        report = retrain(RetrainSettings.read(settings), QUIET)
    epochs = [(line["model"], line["event"], line["epoch"]) for line in lines if "epoch" in line]
    whole = [(model, "fine-tuning", epoch) for model in ("fold 1", "published model") for epoch in (1, 2)]
    assert [one for one in epochs if one[1] == "fine-tuning"] == whole
    assert ("fold 1", f"fine-tuning without part 1 of 4, from {weights_file.name}", 2) in epochs
    assert report["recipe"] == "all blocks fine-tuned for 2 steps, to a whole epoch at a rate of 0.001"
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
