"""The recipe that the settings ask for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from earshot.folders import cache_folder
from serving.network import TAPS, NetworkError, blocks_needed
from training.finetuning.augment import PLAIN, Augmentation
from training.heads.frozen import FrozenRecipe
from training.heads.head import STEPS
from training.weights import calibrating_weights

if TYPE_CHECKING:
    from collections.abc import Mapping

    from training.data.clips import Clip
    from training.recipe import Recipe
    from training.settings import RetrainSettings
    from training.weights import Weights


def recipe_of(
    settings: RetrainSettings, clips: list[Clip], weights: Weights, changes: Mapping[str, Any] | None = None
) -> Recipe:
    """The way of training that was asked for, with all that it needs of the clips; NetworkError where there is none.

    changes: to the schedule of fine-tuning that the settings ask for, by its fields' names.
    """
    architecture = settings.architecture(weights.input_range, weights.architecture)
    cache = settings.cache or cache_folder()
    bottlenecks = settings.method == "bottlenecks"
    frozen = FrozenRecipe(
        clips,
        weights,
        architecture,
        folder=settings.bottleneck_dir or cache / "bottlenecks",
        batch=settings.batch,
        precision=settings.precision,
        steps=(settings.how_many_training_steps if bottlenecks else 0) or STEPS,  # fine-tuning counts batches by it
        balance=settings.balance,
        seed=settings.seed,
        calibrating=calibrating_weights(settings.calibrating, weights),
    )
    if bottlenecks:
        return frozen
    from training.finetuning.finetune import Schedule
    from training.finetuning.tuning import TuningRecipe

    # What was taught is near its goal already, and it takes no changed sounds to keep it there: docs/accuracy.md.
    usual = Schedule(4, rate=3e-5, augmentation=PLAIN) if weights.architecture else Schedule()
    augmentation = {None: usual.augmentation, True: Augmentation(), False: PLAIN}[settings.augment]
    schedule = Schedule(
        settings.epochs or usual.epochs,
        rate=settings.learning_rate or usual.rate,
        freeze=settings.freeze,
        patience=settings.patience,
        balance=settings.balance,
        bfloat16=settings.bfloat16,
        augmentation=replace(augmentation, noise=settings.noise),
    )
    schedule = replace(schedule, **(changes or {}))
    if schedule.freeze and blocks_needed([schedule.freeze]) >= blocks_needed(architecture.taps):
        raise NetworkError(
            f"--freeze {schedule.freeze} leaves no block to learn, as the network ends with "
            f"{max(architecture.taps, key=TAPS.index)}: name a lower one, or --method bottlenecks for a head alone"
        )
    return TuningRecipe(
        frozen,
        schedule,
        folder=cache / "finetuning",
        precision=settings.precision,
        steps=settings.how_many_training_steps,
        seed=settings.seed,
    )
