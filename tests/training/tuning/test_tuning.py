"""Which networks are trained, on which clips, and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from earshot.labels import UNKNOWN
from tests.training.tuning.conftest import least_calibrating
from training.finetuning.checkpoint import Checkpoint
from training.finetuning.finetune import Schedule
from training.finetuning.tuning import TuningRecipe

if TYPE_CHECKING:
    from pathlib import Path

    from training.heads.frozen import FrozenRecipe


def test_parts_are_of_the_training_clips_and_none_is_learnt_from_where_it_answers(
    frozen: FrozenRecipe, tunings: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    train = frozen.train

    def begun(clips: Any, names: Any) -> Any:
        started.append((set(clips), train(clips, names)))
        return started[-1][1]

    monkeypatch.setattr(frozen, "train", begun)
    recipe = TuningRecipe(frozen, Schedule(epochs=3), folder=tmp_path, precision=0.5, steps=0, seed=0)
    others = [clip for clip in recipe.clips if clip.fold != 1]
    recipe.train(others, ["hiss", "hum", UNKNOWN, "whistle"])
    rows = {row: clip for clip, own in recipe._windows.rows.items() for row in own.trained}
    assert len(tunings) > 2
    for (examples, validation, head, *_), (clips_of_head, trained) in zip(tunings, started, strict=True):
        learnt, noises = {rows[row] for own in examples.groups for row in own}, {rows[row] for row in examples.noises}
        kept_out = {rows[row] for own in validation.groups for row in own} if validation else set()
        assert learnt | kept_out == set(others)
        assert learnt == clips_of_head  # the head that it begins with has learnt nothing else
        assert head is trained.head
        assert not {clip.source for clip in learnt} & {clip.source for clip in kept_out}
        assert noises == {clip for clip in learnt if clip.label == UNKNOWN}
    assert [bool(validation) for _, validation, *_ in tunings] == [True] * (len(tunings) - 1) + [False]


@pytest.mark.parametrize("asked", [{"epochs": 9, "steps": 0}, {"epochs": 1, "steps": 9}])  # an epoch has one step
def test_with_patience_all_clips_are_learnt_from_for_as_long_as_was_best_without_a_part(
    frozen: FrozenRecipe, tunings: list[tuple[Any, ...]], tmp_path: Path, asked: dict[str, int]
) -> None:
    schedule = Schedule(asked["epochs"], batch=64, patience=1)
    recipe = TuningRecipe(frozen, schedule, folder=tmp_path, precision=0.5, steps=asked["steps"], seed=0)
    trained = recipe.train(recipe.clips, ["hiss", "hum", UNKNOWN, "whistle"])
    schedules = [schedule.epochs for *_, schedule, _, _, _ in tunings]
    assert schedules == [9] * (len(tunings) - 1) + [2]
    assert trained.chosen["epochs"] == 2


def test_no_network_is_trained_whose_answers_would_be_too_few_to_calibrate_by(
    frozen: FrozenRecipe, tunings: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    least_calibrating(monkeypatch, 100)
    schedule = Schedule(epochs=9, patience=1)
    recipe = TuningRecipe(frozen, schedule, folder=tmp_path, precision=0.5, steps=0, seed=0)
    trained = recipe.train(recipe.clips, ["hiss", "hum", UNKNOWN, "whistle"])
    ((_, validation, *_, given, _, _, _),) = tunings
    assert validation is None
    assert given.epochs == 9
    assert trained.chosen == {}


def test_a_run_that_is_cut_off_between_networks_ends_with_the_same_model(
    frozen: FrozenRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    least_calibrating(monkeypatch, 1)
    monkeypatch.setattr("training.finetuning.tuning.PARTS", 3)
    names = ["hiss", "hum", UNKNOWN, "whistle"]

    def recipe(folder: str) -> TuningRecipe:
        schedule = Schedule(epochs=1, batch=16)
        return TuningRecipe(frozen, schedule, folder=tmp_path / folder, precision=0.5, steps=0, seed=0)

    whole = recipe("whole").train(frozen.clips, names)
    over: list[Checkpoint] = []
    finish = Checkpoint.finish

    def cut_off(self: Checkpoint, history: list[dict[str, float]]) -> None:
        finish(self, history)
        over.append(self)
        if len(over) in {1, 3}:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "finish", cut_off)
    for finished in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            recipe("cut").train(frozen.clips, names)
        assert len(over) == finished
    again = recipe("cut").train(frozen.clips, names)
    networks = len(list((tmp_path / "whole").glob("*/state.npz")))
    assert len(over) == networks == 4  # none was trained twice
    assert (again.temperature, again.thresholds) == (whole.temperature, whole.thresholds)
    assert (again.chosen, again.history) == (whole.chosen, whole.history)
    for block, same in zip(again.blocks, whole.blocks, strict=True):
        np.testing.assert_array_equal(block.kernel, same.kernel)
    for values, alike in zip(again.head.layers[0], whole.head.layers[0], strict=True):
        np.testing.assert_array_equal(values, alike)
