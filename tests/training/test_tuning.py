from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from structlog.testing import capture_logs

from earshot.labels import UNKNOWN
from serving.network import Architecture
from tests.training.sounds import tone
from training.data.clips import Clip
from training.data.datasets import find_clips
from training.data.heard import marks
from training.data.noises import make_noises
from training.finetuning.augment import PLAIN, Augmentation
from training.finetuning.checkpoint import Checkpoint
from training.finetuning.finetune import Schedule
from training.finetuning.learner import Learnt
from training.finetuning.tuning import TuningRecipe
from training.heads.calibration import fit_temperature
from training.heads.frozen import FrozenRecipe
from training.recipes import recipe_of
from training.settings import RetrainSettings
from training.weights import load_weights

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from training.weights import Weights


def frozen_recipe(
    clips: list[Clip], weights: Weights, folder: Path, calibrating: Sequence[Weights] = ()
) -> FrozenRecipe:
    return FrozenRecipe(
        clips,
        weights,
        Architecture(("mixed0",), 1),
        folder=folder,
        batch=16,
        precision=0.5,
        steps=100,
        balance=False,
        seed=0,
        calibrating=calibrating,
    )


def least_calibrating(monkeypatch: pytest.MonkeyPatch, recordings: int) -> None:
    """How many calibrate at the least: there are few here."""
    for module in ("heads.parts", "heads.calibration", "finetuning.tuning"):
        monkeypatch.setattr(f"training.{module}.LEAST_CALIBRATING", recordings)


@pytest.fixture
def frozen(data: Path, weights_file: Path, tmp_path: Path) -> FrozenRecipe:
    clips = [*find_clips(data), *make_noises(20, [1, 2, 3], 0, tmp_path)]
    return frozen_recipe(clips, load_weights(str(weights_file)), tmp_path)


@pytest.fixture
def tunings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What is given to fine-tuning, which gives back what it is given, as if three epochs had changed nothing."""
    given: list[tuple[Any, ...]] = []

    def unchanged(*arguments: Any) -> Learnt:
        examples, validation, outputs, head, *others = arguments
        begun = head()
        assert begun.classes == outputs
        given.append((examples, validation, begun, *others))
        history = [{"epoch": epoch, "loss": 1.0, "val_loss": len(given) / epoch} for epoch in (1, 2, 3)]
        return Learnt(others[1], begun, tuple(history), 2 if validation else 0)

    monkeypatch.setattr("training.finetuning.tuning.finetune", unchanged)
    return given


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


def test_clips_are_heard_as_they_are_where_asked_for_and_by_taught_weights_but_with_other_sounds_where_asked_for(
    data: Path, weights_file: Path, tmp_path: Path
) -> None:
    asked = {"method": "finetune", "taps": "mixed0", "bands": 1, "cache": tmp_path}
    clips, weights = find_clips(data), load_weights(str(weights_file))
    taught = replace(weights, architecture=Architecture(("mixed0",), 1))
    for options, own, expected in (
        ({}, weights, Augmentation()),
        ({"augment": False}, weights, PLAIN),
        ({"augment": False, "noise": 0.25}, weights, replace(PLAIN, noise=0.25)),
        ({}, taught, PLAIN),
        ({"augment": True}, taught, Augmentation()),
    ):
        recipe = recipe_of(RetrainSettings.model_validate({**asked, **options}), clips, own)
        assert isinstance(recipe, TuningRecipe)
        assert recipe._schedule.augmentation == expected


def test_changes_to_the_schedule_go_before_what_the_settings_ask_for(
    data: Path, weights_file: Path, tmp_path: Path
) -> None:
    asked = {"method": "finetune", "taps": "mixed0", "bands": 1, "epochs": 7, "cache": tmp_path}
    clips, weights = find_clips(data), load_weights(str(weights_file))
    recipe = recipe_of(RetrainSettings.model_validate(asked), clips, weights, {"label_smoothing": 0.0})
    assert isinstance(recipe, TuningRecipe)
    assert (recipe._schedule.epochs, recipe._schedule.label_smoothing) == (7, 0.0)


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


def noise_of(folder: Path, seconds: dict[str, float]) -> list[Clip]:
    """Twelve recordings of each class, of the same noise, a clip each that lasts so long."""
    rng = np.random.default_rng(0)
    for label, length in seconds.items():
        (folder / label).mkdir(parents=True)
        for number in range(12):
            noise = 0.1 * rng.normal(size=round(16_000 * length)).clip(-3, 3)
            soundfile.write(folder / label / f"{label}-{number}.wav", noise, 16_000)
    return find_clips(folder)


def test_long_clips_of_a_class_are_no_more_to_go_by_than_short_ones(weights_file: Path, tmp_path: Path) -> None:
    """By windows, of which the long ones have six times as many, nearly all of both would be called `long`."""
    clips = noise_of(tmp_path / "noise", {"long": 31.0, "short": 3.0})
    frozen = frozen_recipe(clips, load_weights(str(weights_file)), tmp_path / "cache")
    trained = frozen.train(frozen.clips, ["long", "short"])
    says_long = np.mean([own[:, 0].mean() for own in frozen.scores(trained, frozen.clips).values()])
    # Half of what a short clip weighs is its window with pre-roll, by which it may be told, and these have none.
    assert 0.4 < says_long < 0.75
    assert trained.chosen["inner_accuracy"] < 0.75


@pytest.mark.parametrize("balance", [False, True])
def test_clips_calibrate_fine_tuning_whatever_their_length_and_classes_by_balance(
    weights_file: Path, tmp_path: Path, tunings: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch, balance: bool
) -> None:
    """Ten windows of `long` to each of `short`, which are right, and wrong: by windows nearly all would be right."""
    clips = noise_of(tmp_path / "noise", {"long": 16.0, "short": 3.0})
    clips = [clip for number, clip in enumerate(clips) if clip.label == "long" or number % 2]  # twelve and six
    frozen = frozen_recipe(clips, load_weights(str(weights_file)), tmp_path / "cache")
    schedule = Schedule(epochs=3, balance=balance)
    recipe = TuningRecipe(frozen, schedule, folder=tmp_path, precision=0.5, steps=0, seed=0)

    def says_long(model: Any, head: Any, rows: list[int]) -> Any:
        return np.tile(np.array([0.9, 0.1], np.float32), (len(rows), 1))

    monkeypatch.setattr(recipe, "_answer", says_long)
    trained = recipe.train(recipe.clips, ["long", "short"])
    assert trained.chosen["inner_accuracy"] == pytest.approx(12 / 18, abs=1e-4)
    logits, truth = np.log(says_long(None, None, [0] * 18)), np.repeat([0, 1], [12, 6])
    expected = fit_temperature(logits, truth, np.repeat([0.75, 1.5] if balance else [1, 1], [12, 6]))
    assert trained.temperature == pytest.approx(expected, rel=1e-3)


def test_balanced_a_rare_class_is_named_as_often_as_a_common_one(weights_file: Path, tmp_path: Path) -> None:
    """Of the same noise."""
    clips = noise_of(tmp_path / "noise", {"common": 3.0, "rare": 3.0})
    clips = [clip for number, clip in enumerate(clips) if clip.label == "common" or number % 4 == 0]

    def says_common(balance: bool) -> float:
        options: dict[str, Any] = {"folder": tmp_path / "cache", "batch": 16, "precision": 0.5, "steps": 100, "seed": 0}
        weights, network = load_weights(str(weights_file)), Architecture(("mixed0",), 1)
        recipe = FrozenRecipe(clips, weights, network, balance=balance, **options)
        trained = recipe.train(recipe.clips, ["common", "rare"])
        return float(np.mean([own[:, 0].mean() for own in recipe.scores(trained, recipe.clips).values()]))

    assert says_common(balance=False) > 0.65
    assert 0.35 < says_common(balance=True) < 0.65
