"""Networks that calibrate: what they answer for, and what is noted of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from earshot.labels import UNKNOWN
from tests.training.sounds import tone
from tests.training.tuning.conftest import frozen_recipe, least_calibrating
from training.data.clips import Clip
from training.data.datasets import find_clips
from training.data.heard import marks
from training.finetuning.finetune import Schedule
from training.finetuning.learner import Learnt
from training.finetuning.tuning import TuningRecipe
from training.recipes import recipe_of
from training.settings import RetrainSettings
from training.weights import load_weights

if TYPE_CHECKING:
    from pathlib import Path

    from training.heads.frozen import FrozenRecipe


def test_what_parts_say_is_calibrated_and_counted_and_their_validation_is_in_the_history(
    frozen: FrozenRecipe, tunings: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    least_calibrating(monkeypatch, 1)
    recipe = TuningRecipe(frozen, Schedule(epochs=3), folder=tmp_path, precision=0.5, steps=0, seed=0)
    trained = recipe.train(recipe.clips, ["hiss", "hum", UNKNOWN, "whistle"])
    parts = len(tunings) - 1
    assert trained.temperature != 1.0
    assert set(trained.chosen) == {"inner_accuracy"}
    assert 0.5 < trained.chosen["inner_accuracy"] <= 1.0
    losses = [one["val_loss"] for one in trained.history]
    assert losses == pytest.approx([(1 + parts) / 2 / epoch for epoch in (1, 2, 3)])
    assert trained.notes == ()
    frozen.heard = frozenset(clip.source for clip in recipe.clips)
    assert "the weights have heard" in recipe.train(recipe.clips, ["hiss", "hum", UNKNOWN, "whistle"]).notes[0]


@pytest.mark.parametrize("of_a_trial", [True, False])
def test_a_loss_above_that_of_guessing_is_noted_of_the_networks_that_calibrate_too(
    frozen: FrozenRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_a_trial: bool
) -> None:
    least_calibrating(monkeypatch, 1)

    def diverged(*arguments: Any) -> Learnt:
        loss = 3.8e9 if bool(arguments[1]) == of_a_trial else 1.0
        return Learnt(arguments[5], arguments[3](), ({"epoch": 1, "loss": loss},), 0)

    monkeypatch.setattr("training.finetuning.tuning.finetune", diverged)
    recipe = TuningRecipe(frozen, Schedule(epochs=1), folder=tmp_path, precision=0.5, steps=0, seed=0)
    (note,) = recipe.train(recipe.clips, ["hiss", "hum", UNKNOWN, "whistle"]).notes[-1:]
    assert note.startswith("Fine-tuning did not converge: the loss ended at 3.8e+09, and guessing gives 1.39.")


def test_networks_that_calibrate_begin_with_the_weights_that_are_to_calibrate_and_are_asked_what_these_have_not_heard(
    data: Path, weights_file: Path, tunings: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    least_calibrating(monkeypatch, 3)
    weights, clips = load_weights(str(weights_file)), find_clips(data)
    heard = {clip.label: clip for clip in clips if clip.path.suffix == ".wav"}.values()  # one of each class
    other = replace(weights, digest="other", heard=frozenset(marks(heard)), blocks=(*weights.blocks,))
    taught = replace(weights, heard=frozenset(marks(clips)))
    frozen = frozen_recipe(clips, taught, tmp_path, calibrating=[other])
    recipe = TuningRecipe(frozen, Schedule(epochs=3), folder=tmp_path, precision=0.5, steps=0, seed=0)
    trained = recipe.train(recipe.clips, ["hiss", "hum", "whistle"])
    *without_a_part, (_, _, _, _, blocks, *_) = tunings
    assert blocks is taught.blocks
    assert all(blocks is other.blocks for _, _, _, _, blocks, *_ in without_a_part)
    rows = {row: clip for clip, own in recipe._windows.rows.items() for row in own.trained}
    answered = [rows[row] for _, unseen, *_ in without_a_part for own in unseen.groups for row in own]
    assert set(answered) <= set(recipe.clips) - {
        clip for clip in recipe.clips if clip.source in frozen.siblings[0].heard
    }
    assert len({clip.source for clip in answered}) >= 3
    assert trained.notes == ()
    *_, folder, _ = tunings[-1]
    frozen.siblings.clear()
    recipe.train(recipe.clips, ["hiss", "hum", "whistle"])
    *_, another, _ = tunings[-1]
    assert folder != another  # the head that it begins with was chosen by other weights, so it does not go on


def test_each_of_several_networks_that_calibrate_answers_for_what_it_has_not_heard(
    data: Path, weights_file: Path, tunings: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    least_calibrating(monkeypatch, 3)
    weights, clips = load_weights(str(weights_file)), find_clips(data)
    halves = [clips[::2], clips[1::2]]
    others = [
        replace(weights, digest=f"half {number}", heard=frozenset(marks(half)), blocks=(*weights.blocks,))
        for number, half in enumerate(halves)
    ]
    taught = replace(weights, heard=frozenset(marks(clips)))
    frozen = frozen_recipe(clips, taught, tmp_path, calibrating=others)
    recipe = TuningRecipe(frozen, Schedule(epochs=3), folder=tmp_path, precision=0.5, steps=0, seed=0)
    assert recipe.train(recipe.clips, ["hiss", "hum", "whistle"]).notes == ()
    rows = {row: clip for clip, own in recipe._windows.rows.items() for row in own.trained}
    for other, unheard in zip(others, reversed(halves), strict=True):
        answered = [
            {rows[row] for own in unseen.groups for row in own}
            for _, unseen, _, _, blocks, *_ in tunings
            if blocks is other.blocks
        ]
        assert sum(map(len, answered)) == len(set().union(*answered))  # each once
        assert set().union(*answered) == set(recipe.clips) & set(unheard)
    assert len({arguments[-2] for arguments in tunings}) == len(tunings)  # each goes on from a folder of its own


def test_where_few_recordings_are_answered_for_nothing_is_calibrated_by_them(
    data: Path, weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    least_calibrating(monkeypatch, 100)
    asked = {"method": "finetune", "taps": "mixed0", "bands": 1, "epochs": 1, "cache": tmp_path}
    long = [Clip(tone(tmp_path / f"{label}.wav", 4.0), label, 1, label) for label in ("hum", UNKNOWN)]
    clips = [*find_clips(data), *long]
    recipe = recipe_of(RetrainSettings.model_validate(asked), clips, load_weights(str(weights_file)))
    names = sorted({clip.label for clip in recipe.clips})
    with capture_logs() as lines:
        trained = recipe.train(recipe.clips, names)
    assert [0 < line["recordings"] < 100 for line in lines if "not calibrated" in line["event"]] == [True]
    assert (trained.temperature, trained.thresholds) == (1.0, (0.0,) * len(names))
    (note,) = trained.notes
    assert note.startswith("Scores are not calibrated")
    # Of background the padded tail is not judged.
    assert [len(scores) for scores in recipe.scores(trained, long).values()] == [2, 1]
