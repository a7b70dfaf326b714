"""Retraining that cannot be done, or cannot be written down: it is said before the long work, and how to mend it."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import pytest
import soundfile
import typer
from rich.console import Console

from earshot.command import TRY_AGAIN
from tests.producers.sounds import noise
from tests.training.conftest import QUIET, run_file
from training.data.datasets import DataError, find_background, find_clips
from training.heads.head import train_head
from training.retrain import retrain, run
from training.settings import RetrainSettings
from training.weights import WeightsError

if TYPE_CHECKING:
    from tests.training.conftest import Trained


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
        (
            {"model_base_path": Path(__file__), "weights": "nowhere.npz"},
            f"cannot make the folder {__file__} (File exists); name another with --model-base-path",
        ),
        ({"model_base_path": Path(__file__) / "models", "weights": "nowhere.npz"}, "(Not a directory); name another"),
        ({"hold_out": "1,2,3,4,5", "weights": "nowhere.npz"}, "name fewer folds with --evaluate"),
        ({"compact": None, "weights": "nowhere.npz"}, "there is nothing to do: --evaluate names folds"),
        ({"taps": "mixed99"}, "not mixed99"),
        (
            {"method": "finetune", "freeze": "mixed0"},
            "--freeze mixed0 leaves no block to learn, as the network ends with",
        ),
        ({"protocol": "random", "weights": "nowhere.npz"}, "stands beside whole folds: name some with --evaluate"),
    ],
)
def test_what_a_user_can_mend_ends_with_status_2_and_says_how(
    trained: Trained, capsys: pytest.CaptureFixture[str], options: dict[str, Any], words: str
) -> None:
    folds = sorted(int(fold) for fold in trained.report["folds"])
    if "hold_out" in options:
        options = {**options, "hold_out": ",".join(map(str, folds))}
    settings = {**trained.settings, "model_base_path": None, "evaluate": "none", "protocol": "folds"}
    with pytest.raises(typer.Exit) as ended:
        run(RetrainSettings.read({**settings, **options}))
    assert ended.value.exit_code == 2
    assert words in capsys.readouterr().err


def test_weights_that_cannot_be_downloaded_end_with_a_status_that_says_to_try_again(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(**_: Any) -> Any:
        raise Exception("URL fetch failure on inception_v3")  # noqa: TRY002 - what Keras raises

    monkeypatch.setattr(keras.applications, "InceptionV3", unreachable)
    with pytest.raises(typer.Exit) as ended:
        run(RetrainSettings.read({**trained.settings, "weights": "imagenet"}))
    assert ended.value.exit_code == TRY_AGAIN
    assert "URL fetch failure on inception_v3); try again, or name its file" in capsys.readouterr().err


def test_a_version_is_no_base_path_for_others(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    inside = trained.model_base_path / "1"
    with pytest.raises(typer.Exit) as ended:
        run(RetrainSettings.read({**trained.settings, "model_base_path": inside, "weights": "nowhere.npz"}))
    assert ended.value.exit_code == 2
    assert f"1 is a version itself; name the folder that it is in, {trained.model_base_path}" in capsys.readouterr().err
    assert not (inside / "1").exists()


def test_a_copy_in_another_fold_is_refused_before_the_long_work(data: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(data, tmp_path / "data")
    one = next(clip for clip in find_clips(copied) if clip.path.stem == "hum-0")
    for number in range(50):
        shutil.copy(one.path, one.path.with_name(f"copy {number}.wav"))
    settings = {"data": str(copied), "weights": "nowhere.npz", "evaluate": "none", "compact": tmp_path / "model.npz"}
    with pytest.raises(DataError, match="are copies, in folds"):
        retrain(RetrainSettings.read({**settings, "cache": tmp_path}), QUIET)
    for copy in one.path.parent.glob("copy *.wav"):
        copy.unlink()
    with pytest.raises(WeightsError, match="nowhere"):
        retrain(RetrainSettings.read({**settings, "cache": tmp_path}), QUIET)
    assert not list(tmp_path.rglob("hum-0-*.wav")), "no noise is made before all is found in order"


def test_a_class_that_is_held_out_whole_is_not_published(data: Path, tmp_path: Path) -> None:
    few = shutil.copytree(data, tmp_path / "data")
    one, *others = (clip for clip in find_clips(few) if clip.label == "hum")
    for clip in others:
        clip.path.unlink()
    own = {"data": str(few), "weights": "nowhere.npz", "evaluate": "none", "compact": tmp_path / "model.npz"}
    with pytest.raises(DataError, match="no clip of hum that can be read is outside the folds"):
        retrain(RetrainSettings.read({**own, "hold_out": str(one.fold)}), QUIET)
    with pytest.raises(WeightsError):  # which comes after
        retrain(RetrainSettings.read({**own, "hold_out": str(1 + one.fold % 5)}), QUIET)


def test_a_class_of_which_only_what_is_held_out_can_be_read_is_not_published(
    data: Path, weights_file: Path, tmp_path: Path
) -> None:
    broken = shutil.copytree(data, tmp_path / "data")
    one, *others = (clip for clip in find_clips(broken) if clip.label == "hum" and "hum-" in clip.path.name)
    for clip in others:
        if clip.fold != one.fold:
            clip.path.write_bytes(f"no recording, {clip.source}".encode())
    own: dict[str, Any] = {"data": str(broken), "weights": str(weights_file), "taps": "mixed0", "evaluate": "none"}
    own |= {"compact": tmp_path / "model.npz", "cache": tmp_path / "cache", "hold_out": str(one.fold)}
    own |= {"generated_background": 0}
    with pytest.raises(DataError, match="no clip of hum that can be read is outside the folds"):
        retrain(RetrainSettings.read(own), QUIET)


def test_background_that_is_held_out_whole_is_not_published(data: Path, tmp_path: Path) -> None:
    room = tmp_path / "room"
    room.mkdir()
    shutil.copy(data / "hum" / "hum-0.wav", room / "wind.wav")
    (clip,) = find_background([room, tmp_path / "room"])
    own: dict[str, Any] = {"data": str(data), "background": str(room), "weights": "nowhere.npz", "evaluate": "none"}
    own |= {"compact": tmp_path / "model.npz", "hold_out": str(clip.fold)}
    with pytest.raises(DataError, match="no clip of unknown that can be read is outside the folds"):
        retrain(RetrainSettings.read({**own, "generated_background": 0}), QUIET)


def test_a_file_that_is_of_a_class_and_background_too_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "room").symlink_to(data / "hum")
    own = {"data": str(data), "background": str(tmp_path / "room"), "weights": "nowhere.npz", "evaluate": "none"}
    with pytest.raises(DataError, match=r"room/(corrupt|hum-0)\.wav is of hum and background too; name other folders"):
        retrain(RetrainSettings.read(own), QUIET)


def test_options_of_the_other_method_are_named(data: Path, tmp_path: Path) -> None:
    said = io.StringIO()
    own = {"data": str(data), "weights": "nowhere.npz", "compact": tmp_path / "model.npz", "evaluate": "none"}
    own |= {"epochs": 3, "augment": False}
    with pytest.raises(WeightsError):
        retrain(RetrainSettings.read(own), Console(file=said, width=200))
    assert "Without --method finetune these do nothing: --epochs, --no-augment\n" in said.getvalue()


def test_ctrl_c_says_how_to_go_on(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupts(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.retrain.recipe_of", interrupts)
    with pytest.raises(typer.Exit) as ended:
        run(RetrainSettings.read(trained.settings))
    assert ended.value.exit_code == 130
    assert capsys.readouterr().err == "earshot: interrupted; the same command goes on from what the cache keeps\n"


def test_a_report_that_cannot_be_written_in_the_end_is_printed(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder vanishes while the real training goes on."""
    (tmp_path / "out").mkdir()

    def meanwhile(*arguments: Any, **more: Any) -> Any:
        (tmp_path / "out").rmdir()
        return train_head(*arguments, **more)

    monkeypatch.setattr("training.heads.frozen.train_head", meanwhile)
    fold, report = next(iter(trained.report["folds"])), tmp_path / "out" / "report.json"
    own = {
        **trained.settings,
        "model_base_path": None,
        "compact": None,
        "report": report,
        "run_dir": tmp_path / "runs",
        "evaluate": fold,
        "protocol": "folds",
    }
    (tmp_path / "runs").mkdir()
    with pytest.raises(typer.Exit) as ended:
        run(RetrainSettings.read(own))
    assert ended.value.exit_code == 2
    assert [file.name for file in (tmp_path / "runs").glob("*/report.json")] == ["report.json"]
    said = capsys.readouterr()
    assert f"cannot write {report} (No such file or directory)" in said.err
    assert json.loads(said.out[said.out.index("{") :])["folds"] == {fold: trained.report["folds"][fold]}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("1,1,hum", "1,1,hiss"), "recordings: 1, of classes: 2; training needs two recordings of two classes"),
        (("1,1,hum", "2,1,hum", "3,2,hiss"), "recordings outside fold 2: 2, of classes: 1; training needs two"),
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
    settings |= {"generated_background": 12}  # four in fold 3, so that it is not empty
    with pytest.raises(DataError, match=r"no clip of a class in fold 3 can be read.*3-h\w+\.wav"):
        retrain(RetrainSettings.read({**settings, "taps": "mixed0", "bands": "1"}), QUIET)


def test_the_file_runs_as_a_command(tmp_path: Path) -> None:
    done = run_file("retrain.py", "--data", str(tmp_path / "nowhere"), cwd=tmp_path)
    assert done.returncode == 2
    assert "nowhere is not a folder" in done.stderr
    assert "Traceback" not in done.stderr
