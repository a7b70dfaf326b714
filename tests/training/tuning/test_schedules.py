"""What the settings ask fine-tuning for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from serving.network import Architecture
from training.data.datasets import find_clips
from training.finetuning.augment import PLAIN, Augmentation
from training.finetuning.tuning import TuningRecipe
from training.recipes import recipe_of
from training.settings import RetrainSettings
from training.weights import load_weights

if TYPE_CHECKING:
    from pathlib import Path


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
