"""Sounds of no class: how they are found, how many are learnt from, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from rich.console import Console

from earshot.labels import UNKNOWN
from serving.layout import CARD_FILE
from tests.training.sounds import tone
from training.data.background import GENERATED, no_more_background
from training.data.clips import Clip
from training.data.datasets import DataError, chosen_folds, find_background
from training.evaluate import evaluate
from training.evaluation.answers import Answers
from training.evaluation.metrics import judge, rows
from training.retrain import retrain
from training.settings import EvaluateSettings, RetrainSettings

QUIET = Console(quiet=True)


def clip(label: str, name: str = "1.wav") -> Clip:
    return Clip(Path(name), label, 1, name)


def test_each_recording_below_a_folder_is_unknown_and_in_a_fold_that_the_clips_have(tmp_path: Path) -> None:
    for name in (
        "a.wav",
        "kitchen/b.wav",
        "kitchen/night/c.wav",
        "kitchen/night/d.wav",
        "monday/e.wav",
        "monday/f.wav",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    clips = find_background([tmp_path])
    assert [one.path.name for one in clips] == ["a.wav", "b.wav", "c.wav", "d.wav", "e.wav", "f.wav"]
    assert {one.label for one in clips} == {UNKNOWN}
    assert {one.fold for one in clips} <= {1, 2, 3, 4, 5}
    sources = ["background:a", "background:kitchen", *["background:kitchen/night"] * 2, *["background:monday"] * 2]
    assert [one.source for one in clips] == sources  # a folder is one recording
    assert len({one.fold for one in clips[4:]}) == 1
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="none holds no recording"):
        find_background([tmp_path, tmp_path / "none"])


def test_a_recording_that_the_clips_have_too_is_in_their_fold(tmp_path: Path) -> None:
    (tmp_path / "1-100032-A-0.wav").touch()
    (alone,) = find_background([tmp_path])
    (shared,) = find_background([tmp_path], [Clip(Path("x.wav"), "dog", 9, "freesound:100032")])
    assert alone.source == shared.source == "freesound:100032"
    assert (alone.fold in {1, 2, 3, 4, 5}, shared.fold) == (True, 9)


def test_a_fold_of_background_alone_is_none_to_judge_on() -> None:
    clips = [Clip(Path("a"), "dog", 2, "a"), Clip(Path("b"), "cat", 7, "b"), Clip(Path("c"), UNKNOWN, 3, "c")]
    assert chosen_folds("all", clips) == [2, 7]
    with pytest.raises(DataError, match="no clip in fold 3"):
        chosen_folds("3", clips)


def test_of_background_no_more_is_learnt_than_of_all_classes_and_that_evenly() -> None:
    counts = {clip("dog", "a"): 4, clip("dog", "b"): 6, clip("siren", "c"): 3, clip(UNKNOWN, "d"): 30}
    chosen = no_more_background(counts, 0)
    windows = {one.path.name: list(chosen[one]) for one in counts}
    assert [len(windows[name]) for name in "abc"] == [4, 6, 3]
    parts = [0, 2, 4, 6, 9, 11, 13, 16, 18, 20, 23, 25, 27, 30]
    assert all(low <= one < high for low, one, high in zip(parts, windows["d"], parts[1:], strict=False))
    assert len(windows["d"]) == 13
    pairs = no_more_background({clip("dog", "a"): 50} | {clip(UNKNOWN, f"{n}"): 2 for n in range(50)}, 0)
    drawn = [own[0] for one, own in pairs.items() if one.label == UNKNOWN]
    assert 15 < sum(drawn) < 35, "the first and the second window are drawn alike"
    short = no_more_background({clip("dog", "a"): 4} | {clip(UNKNOWN, f"{n}"): 1 for n in range(100)}, 0)
    assert sum(len(own) for one, own in short.items() if one.label == UNKNOWN) == 4
    for few in ({clip("dog", "a"): 4, clip(UNKNOWN, "d"): 4}, {clip(UNKNOWN, "d"): 4}):
        assert [len(own) for own in no_more_background(few, 0).values()] == list(few.values())


@pytest.mark.parametrize(
    ("recorded", "made", "learnt"),
    [
        (24, 600, (24, 24)),
        (10, 600, (10, 38)),
        (90, 600, (24, 24)),
        (90, 10, (38, 10)),
        (10, 20, (10, 20)),
        (0, 90, (0, 48)),
    ],
)
def test_noises_that_are_made_do_not_crowd_out_what_was_recorded(
    recorded: int, made: int, learnt: tuple[int, int]
) -> None:
    room, noise = clip(UNKNOWN, "room"), Clip(Path("noise"), UNKNOWN, 1, f"{GENERATED}noise")
    counts = {noise: made, clip("dog", "a"): 48, room: recorded}
    chosen = no_more_background(counts, 0)
    assert list(chosen) == list(counts)
    assert (len(chosen[room]), len(chosen[noise])) == learnt
    for one, windows in chosen.items():
        assert windows == sorted(set(windows))
        assert set(windows) <= set(range(counts[one]))


def test_every_window_of_background_is_heard_and_what_is_not_unknown_is_a_false_accept() -> None:
    names = ("dog", "siren", UNKNOWN)
    dog, siren, room = [0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7]
    scores = {
        clip("dog", "a"): np.array([dog, siren], np.float32),
        clip("siren", "b"): np.array([room], np.float32),
        clip(UNKNOWN, "c"): np.array([room, room, dog, siren, dog, room], np.float32),
    }
    answers = Answers.of(scores, names, [0.0, 0.6, 0.0])
    assert len(answers) == 8
    figures = judge(answers)
    assert figures["background"] == {
        "recordings": 1,
        "segments": 6,
        "false_accepts": 2,  # the siren is below its threshold
        "false_accepts_per_hour": 400.0,
        "named": {"dog": 2},
    }
    # All other figures are as if there were no background.
    assert (figures["clips"], figures["accuracy"], figures["unknown"]["share"]) == (2, 0.5, 0.5)
    assert figures["confusion"] == {"dog": {"dog": 1}, "siren": {UNKNOWN: 1}}
    assert set(figures["classes"]) == {"dog", "siren"}
    assert [row["clip"] for row in rows(answers)] == ["a", "b"]
    assert judge(answers.of_classes)["background"] is None


def test_a_model_that_learnt_background_calls_it_unknown(data: Path, weights_file: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for number in range(8):  # clicks, which none of the classes is
        sound = 0.001 * rng.normal(size=16_000 * 7)
        sound[:: 3_000 + 50 * number] = 0.9
        (tmp_path / "room").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "room" / f"{number}.wav", sound, 16_000)
    own = {
        "data": str(data),
        "background": str(tmp_path / "room"),
        "generated_background": 0,
        "weights": str(weights_file),
        "taps": "mixed0",
        "bands": 2,
        "cache": tmp_path / "cache",
        "evaluate": "1",
        "hold_out": "1",
        "model_base_path": tmp_path / "models",
        "report": tmp_path / "report.json",
    }
    report = retrain(RetrainSettings.read(own), QUIET)
    assert report["class_names"] == ("hiss", "hum", UNKNOWN, "whistle")
    counted = f"{report['clips']} clips of 3 classes"
    assert report["background_clips"] == 8
    assert f"{counted}, 8 of no class: " in (tmp_path / "report.html").read_text()
    learnt = f"It learnt from {report['clips'] - report['held_out']['clips']} of the clips"
    card = (tmp_path / "models" / "1" / CARD_FILE).read_text()
    assert f"; {counted} and 8 of none. {learnt}, and never saw the labels of fold 1." in card
    assert "False accepts an hour: 0 of background." in card
    assert " | 0 of background |\n" in card
    heard = report["folds"]["1"]["background"]
    assert heard["recordings"] >= 1
    assert heard["segments"] == 2 * heard["recordings"]  # a stream that goes on has no padded third one
    assert heard["false_accepts"] == 0
    assert report["folds"]["1"]["accuracy"] > 0.8

    judged = {"data": str(data), "background": str(tmp_path / "room"), "model": tmp_path / "models", "folds": "1"}
    again = evaluate(EvaluateSettings.read(judged), QUIET)
    assert again["pooled"]["background"] == heard
    assert again["pooled"]["accuracy"] == report["folds"]["1"]["accuracy"]
    silent = tmp_path / "silent"
    silent.mkdir()
    soundfile.write(silent / "0.wav", np.zeros(48_000), 16_000)
    unheard = evaluate(EvaluateSettings.read({**judged, "background": str(silent)}), QUIET)
    assert "No false accepts are counted: no recording of background can be read" in unheard["pooled"]["notes"]
    everything = evaluate(EvaluateSettings.read({**judged, "folds": "all"}), QUIET)
    assert everything["pooled"]["background"]["recordings"] == 8
    for clip in find_background([tmp_path / "room"]):
        if clip.fold == 1:
            clip.path.unlink()
    elsewhere = evaluate(EvaluateSettings.read(judged), QUIET)
    words = "no recording of background is dealt into --folds 1; --folds all asks about every one"
    assert f"No false accepts are counted: {words}" in elsewhere["pooled"]["notes"]


def test_a_fold_whose_only_readable_clips_are_background_cannot_be_judged(weights_file: Path, tmp_path: Path) -> None:
    for kind in ("hum", "hiss"):
        for number in range(4):
            tone(tmp_path / "data" / kind / f"{number}.wav", 0.5)
    (tmp_path / "data" / "metadata").mkdir()
    table = ["slice_file_name,fsID,fold,class"]
    for fold, kind, number in ((1, "hum", 0), (1, "hiss", 1), (2, "hum", 2)):
        name = f"{number}-0-0-0.wav"
        path = tmp_path / "data" / "audio" / f"fold{fold}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"broken" if fold == 2 else (tmp_path / "data" / kind / f"{number}.wav").read_bytes())
        table.append(f"{name},{number},{fold},{kind}")
    (tmp_path / "data" / "metadata" / "UrbanSound8K.csv").write_text("\n".join(table))
    for number in range(6):
        tone(tmp_path / "room" / f"{number}.wav", 0.6 + number / 10)
    own = {"data": str(tmp_path / "data"), "background": str(tmp_path / "room"), "weights": str(weights_file)}
    more = {"taps": "mixed0", "cache": tmp_path / "cache", "evaluate": "2", "generated_background": 0}
    with pytest.raises(DataError, match="no clip of a class in fold 2 can be read"):
        retrain(RetrainSettings.read(own | more), QUIET)
