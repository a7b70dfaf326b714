"""What a model that is trained or judged has not learnt from: folds held out, clips its weights have not heard."""

from __future__ import annotations

import io
import json
import shutil
from typing import TYPE_CHECKING, Any

from rich.console import Console

from earshot.labels import UNKNOWN
from serving.catalogue import versions
from serving.compact import load_compact
from serving.inspection import recordings_seen
from serving.layout import TRAINING_FILE
from tests.training.conftest import BROKEN, QUIET, write_taught
from training.data.datasets import find_clips
from training.data.heard import marks
from training.evaluate import evaluate
from training.release.fairness import fair_clips
from training.retrain import retrain
from training.settings import EvaluateSettings, RetrainSettings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.training.conftest import Trained


def test_folds_that_are_held_out_are_judged_and_named_in_the_card(trained: Trained, data: Path, tmp_path: Path) -> None:
    fold = next(iter(trained.report["folds"]))
    own = {**trained.settings, "evaluate": "none", "hold_out": fold, "model_base_path": tmp_path, "report": None}
    report = retrain(RetrainSettings.read(own), QUIET)
    assert report["folds"] == {}
    assert report["held_out"] == trained.report["folds"][fold]
    card = load_compact(trained.settings["compact"]).card
    assert f"and never saw the labels of fold {fold}. Of its {report['held_out']['clips']} clips it names" in card
    assert "| fold |" not in card  # a table without rows
    thresholds = zip(report["class_names"], report["held_out"]["thresholds"], strict=True)
    least = ", ".join(f"{name} {score:.2f}" for name, score in thresholds if name != UNKNOWN)
    assert f"the score below which a label is `unknown`: {least}. Logits were divided" in card
    before, after = (report["held_out"][key]["ece"] for key in ("calibration_before", "calibration"))
    assert f"before calibration and after: {before:.3f}, {after:.3f}." in card
    (version,) = versions(tmp_path)
    assert (version.accuracy, version.judged_on) == (report["held_out"]["accuracy"], "held out")
    unseen = {clip.source for clip in find_clips(data) if str(clip.fold) == fold}
    assert unseen
    seen = recordings_seen(version.folder)
    assert seen
    assert not seen & unseen


def test_folds_that_are_held_out_judge_no_recipe(trained: Trained) -> None:
    fold, *others = trained.report["folds"]
    own = {"protocol": "folds", "model_base_path": None, "compact": None, "report": None, "run_dir": None}
    own |= {"hold_out": ",".join(others), "evaluate": "all"}
    report = retrain(RetrainSettings.read({**trained.settings, **own}), QUIET)
    assert report["folds"] == {fold: trained.report["folds"][fold]}


def head_in(file: Path) -> bytes:
    """The values of a model's head, which are divided by its temperature."""
    return b"".join(values.tobytes() for layer in load_compact(file).head.layers for values in layer)


def test_a_head_on_weights_that_have_heard_all_clips_is_chosen_by_others_that_have_not(
    data: Path, weights_file: Path, tmp_path: Path
) -> None:
    clips = [clip for clip in find_clips(data) if clip.path.relative_to(data).as_posix() not in BROKEN]
    write_taught(weights_file, tmp_path / "all.npz", marks(clips))
    write_taught(weights_file, tmp_path / "some.npz", marks(clips[::6]))
    settings: dict[str, Any] = {"data": str(data), "weights": str(tmp_path / "all.npz"), "cache": tmp_path / "cache"}
    settings["generated_background"] = 8
    settings |= {"evaluate": "none", "hold_out": str(clips[0].fold), "compact": tmp_path / "model.npz"}
    by_heard = retrain(RetrainSettings.read(settings), QUIET)["held_out"]
    assert "the weights have heard" in by_heard["notes"][1]
    assert "--calibrate-by" in by_heard["notes"][2]
    chosen = [(head_in(tmp_path / "model.npz"), by_heard["inner_accuracy"])]
    write_taught(weights_file, tmp_path / "others.npz", marks(clips[::6]), times=-1.0)
    for name in ("some", "others"):
        settings["calibrate_by"] = f"{tmp_path / name}.npz"
        by_unheard = retrain(RetrainSettings.read(settings), QUIET)["held_out"]
        assert not any("too sure" in note for note in by_unheard["notes"])
        chosen.append((head_in(tmp_path / "model.npz"), by_unheard["inner_accuracy"]))
    assert len(set(chosen)) == 3  # by fewer clips, and by other features, it has another temperature
    settings["calibrate_by"] = settings["weights"]
    by_none = retrain(RetrainSettings.read(settings), QUIET)["held_out"]
    assert (head_in(tmp_path / "model.npz"), by_none["inner_accuracy"]) == chosen[0]
    assert "What --calibrate-by names has heard all but too few" in by_none["notes"][2]


def test_clips_that_the_weights_have_heard_without_labels_are_known_in_the_report_and_to_whoever_judges_the_model(
    data: Path, weights_file: Path, tmp_path: Path
) -> None:
    clips = [clip for clip in find_clips(data) if clip.path.relative_to(data).as_posix() not in BROKEN]
    fold = clips[0].fold
    heard = [clip for clip in clips if clip.fold == fold][:2]
    write_taught(weights_file, tmp_path / "sound.npz", marks(heard))
    settings: dict[str, Any] = {"data": str(data), "weights": str(tmp_path / "sound.npz"), "generated_background": 8}
    settings |= {"evaluate": str(fold), "hold_out": str(fold)}
    said = io.StringIO()
    report = retrain(
        RetrainSettings.read({**settings, "cache": tmp_path / "cache", "model_base_path": tmp_path / "models"}),
        Console(file=said, width=200),
    )
    note = f"The weights have heard the recordings of 2 of these {report['held_out']['clips']} clips"
    assert [note in one["notes"][0] for one in (report["pooled"], report["held_out"])] == [True, True]
    assert note in said.getvalue()
    assert note in (tmp_path / "models" / "1" / "assets.extra" / "card.md").read_text()
    record = json.loads((tmp_path / "models" / "1" / TRAINING_FILE).read_text())
    assert record["heard"] == sorted(marks(heard))
    assert [version.judged_heard for version in versions(tmp_path / "models")] == [2]
    assert record["chosen"]["temperature"] == report["held_out"]["temperature"]
    assert record["chosen"]["strength"] == report["held_out"]["strength"]
    assert list(record["thresholds"].values()) == report["held_out"]["thresholds"]
    new = [clip for clip in clips if clip.fold == fold and clip not in heard]
    fair = fair_clips(clips, [], tmp_path / "models" / "1", tmp_path / "models" / "1")
    assert fair.labelled.clips == new
    told = EvaluateSettings.read({"data": str(data), "folds": str(fold), "model": tmp_path / "models"})
    assert "have heard the recordings of 2 of these" in evaluate(told, QUIET)["pooled"]["notes"][0]


def test_a_class_that_only_the_judged_fold_has_is_named(data: Path, trained: Trained, tmp_path: Path) -> None:
    few = shutil.copytree(data, tmp_path / "data")
    one, *others = (clip for clip in find_clips(few) if clip.path.stem.startswith("hum-"))
    for clip in others:
        clip.path.unlink()
    own = {"data": str(few), "protocol": "folds", "evaluate": str(one.fold), "cache": tmp_path / "cache"}
    own |= {"model_base_path": None, "compact": None, "report": None, "run_dir": None}
    report = retrain(RetrainSettings.read({**trained.settings, **own}), QUIET)
    said = "All clips of hum are among those that are judged: what never learnt it cannot name it"
    for figures in (report["pooled"], report["folds"][str(one.fold)]):
        assert any(note.startswith(said) for note in figures["notes"])
