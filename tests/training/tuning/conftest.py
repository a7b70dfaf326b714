"""Small recipes of fine-tuning, and fine-tuning that is not done: what is given to it is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.training.conftest import SMALL
from training.data.datasets import find_clips
from training.data.noises import make_noises
from training.finetuning.learner import Learnt
from training.heads.frozen import FrozenRecipe
from training.weights import load_weights

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from training.data.clips import Clip
    from training.weights import Weights


def frozen_recipe(
    clips: list[Clip], weights: Weights, folder: Path, calibrating: Sequence[Weights] = ()
) -> FrozenRecipe:
    return FrozenRecipe(
        clips,
        weights,
        SMALL,
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


@pytest.fixture(scope="package")
def noises(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    return make_noises(12, [1, 2, 3], 0, tmp_path_factory.mktemp("noises"))


@pytest.fixture
def frozen(
    data: Path, noises: list[Clip], weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> FrozenRecipe:
    # What fine-tuning begins with is not the matter here, and a hundred heads for each network take their time.
    monkeypatch.setattr("training.heads.head.STRENGTHS", (1e-3, 1e-1))
    monkeypatch.setattr("training.heads.head.PARTS", 3)
    clips = [*find_clips(data), *noises]
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
