from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from earshot.labels import UNKNOWN
from serving.network import Architecture
from tests.training.sounds import tone
from training.data.clips import Clip
from training.data.datasets import find_clips
from training.data.noises import make_noises
from training.finetuning.augment import PLAIN, Augmentation
from training.finetuning.finetune import Schedule
from training.finetuning.tuning import TuningRecipe, _parts
from training.heads.frozen import FrozenRecipe
from training.recipes import recipe_of
from training.settings import RetrainSettings
from training.weights import load_weights

if TYPE_CHECKING:
    from pathlib import Path


def test_recordings_that_calibrate_are_not_learnt_from_and_every_class_is_learnt() -> None:
    classes = np.repeat([0, 1, 2], [40, 20, 3])
    sources = [f"{number // 2}" for number in range(60)] + ["only"] * 3
    learnt, kept_out = _parts(classes, sources, seed=0)
    assert sorted([*learnt, *kept_out]) == list(range(63))
    assert not {sources[number] for number in learnt} & {sources[number] for number in kept_out}
    assert set(classes[learnt]) == {0, 1, 2}
    assert 4 <= len(kept_out) <= 12  # about an eighth, however few recordings a class has


def test_an_eighth_of_many_recordings_calibrates() -> None:
    classes = np.tile([0, 1], 80)
    learnt, kept_out = _parts(classes, [str(number) for number in range(160)], seed=0)
    assert (len(learnt), len(kept_out)) == (140, 20)
    assert np.bincount(classes[kept_out]).tolist() == [10, 10]


def test_with_two_recordings_nothing_is_kept_out_that_is_needed() -> None:
    learnt, kept_out = _parts(np.array([0, 0, 1, 1]), ["a", "a", "b", "b"], seed=0)
    assert (learnt.tolist(), kept_out.tolist()) == ([0, 1, 2, 3], [])


def test_two_recordings_with_a_clip_each_are_both_learnt_from() -> None:
    learnt, kept_out = _parts(np.array([0, 1]), ["a", "b"], seed=0)
    assert (learnt.tolist(), kept_out.tolist()) == ([0, 1], [])


@pytest.mark.parametrize("seed", range(3))
def test_nothing_calibrates_where_one_recording_would_be_left_to_learn_from(seed: int) -> None:
    learnt, kept_out = _parts(np.array([0, 1, 0]), ["a", "a", "b"], seed)
    assert (learnt.tolist(), kept_out.tolist()) == ([0, 1, 2], [])


@pytest.mark.parametrize("seed", range(8))
def test_a_recording_of_two_classes_is_on_one_side(seed: int) -> None:
    classes, sources = np.array([0, 0, 1, 2, 0, 0, 1, 1]), list("abccdefg")
    learnt, kept_out = _parts(classes, sources, seed)
    assert not {sources[number] for number in learnt} & {sources[number] for number in kept_out}
    assert set(classes[learnt]) == {0, 1, 2}


class _Enough(Exception):
    """What was to be seen has been seen."""


def test_what_is_kept_out_is_of_the_training_clips_and_no_noise_is_of_it(
    data: Path, weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    started: list[Any] = []

    def recording(*arguments: Any) -> Any:
        given.extend(arguments)
        raise _Enough

    monkeypatch.setattr("training.finetuning.tuning.finetune", recording)
    clips = [*find_clips(data), *make_noises(20, [1, 2, 3], 0, tmp_path)]
    frozen = FrozenRecipe(
        clips,
        load_weights(str(weights_file)),
        Architecture(("mixed0",), 1),
        folder=tmp_path,
        batch=16,
        precision=0.5,
        steps=100,
        balance=False,
        seed=0,
    )
    train = frozen.train

    def begun(clips: Any, names: Any) -> Any:
        started.append((clips, train(clips, names)))
        return started[-1][1]

    monkeypatch.setattr(frozen, "train", begun)
    recipe = TuningRecipe(frozen, Schedule(epochs=1), folder=tmp_path, precision=0.5, steps=0, seed=0)
    with pytest.raises(_Enough):
        recipe.train([clip for clip in recipe.clips if clip.fold != 1], ["hiss", "hum", UNKNOWN, "whistle"])
    rows = {row: clip for clip, own in recipe._windows.rows.items() for row in own.trained}
    learnt, kept_out = ({rows[row] for own in examples.groups for row in own} for examples in given[:2])
    noises = {rows[row] for row in given[0].noises}
    assert kept_out
    assert not learnt & kept_out
    ((clips_of_head, trained),) = started
    assert learnt == set(clips_of_head)  # the head that it begins with has learnt nothing else
    assert given[2] is trained.head
    assert not {clip.source for clip in learnt} & {clip.source for clip in kept_out}
    assert 1 not in {clip.fold for clip in learnt | kept_out | noises}
    assert noises
    assert {clip.label for clip in noises} == {UNKNOWN}
    assert not noises & kept_out


def test_without_augmentation_clips_are_heard_as_they_are_but_with_other_sounds_where_asked_for(
    data: Path, weights_file: Path, tmp_path: Path
) -> None:
    asked = {"method": "finetune", "taps": "mixed0", "bands": 1, "cache": tmp_path}
    clips, weights = find_clips(data), load_weights(str(weights_file))
    for options, expected in (
        ({}, Augmentation()),
        ({"augment": False}, PLAIN),
        ({"augment": False, "noise": 0.25}, replace(PLAIN, noise=0.25)),
    ):
        recipe = recipe_of(RetrainSettings.model_validate({**asked, **options}), clips, weights)
        assert isinstance(recipe, TuningRecipe)
        assert recipe._schedule.augmentation == expected


def test_with_few_recordings_kept_out_nothing_is_calibrated_by_them(
    data: Path, weights_file: Path, tmp_path: Path
) -> None:
    asked = {"method": "finetune", "taps": "mixed0", "bands": 1, "epochs": 1, "cache": tmp_path}
    long = [Clip(tone(tmp_path / f"{label}.wav", 4.0), label, 1, label) for label in ("hum", UNKNOWN)]
    clips = [*find_clips(data), *long]
    recipe = recipe_of(RetrainSettings.model_validate(asked), clips, load_weights(str(weights_file)))
    names = sorted({clip.label for clip in recipe.clips})
    with capture_logs() as lines:
        trained = recipe.train(recipe.clips, names)
    assert [line["recordings"] < 10 for line in lines if "not calibrated" in line["event"]] == [True]
    assert (trained.temperature, trained.thresholds) == (1.0, (0.0,) * len(names))
    (note,) = trained.notes
    assert note.startswith("Scores are not calibrated")
    # Of background the padded tail is not judged.
    assert [len(scores) for scores in recipe.scores(trained, long).values()] == [2, 1]
