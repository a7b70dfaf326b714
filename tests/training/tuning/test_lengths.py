"""Clips of other lengths, and classes of few of them: what each has to say in training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from tests.training.conftest import SMALL
from tests.training.tuning.conftest import frozen_recipe
from training.data.datasets import find_clips
from training.finetuning.finetune import Schedule
from training.finetuning.tuning import TuningRecipe
from training.heads.calibration import fit_temperature
from training.heads.frozen import FrozenRecipe
from training.weights import load_weights

if TYPE_CHECKING:
    from pathlib import Path

    from training.data.clips import Clip


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
        weights = load_weights(str(weights_file))
        recipe = FrozenRecipe(clips, weights, SMALL, balance=balance, **options)
        trained = recipe.train(recipe.clips, ["common", "rare"])
        return float(np.mean([own[:, 0].mean() for own in recipe.scores(trained, recipe.clips).values()]))

    assert says_common(balance=False) > 0.65
    assert 0.35 < says_common(balance=True) < 0.65
