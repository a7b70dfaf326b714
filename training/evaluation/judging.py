"""How good a recipe is: a model is trained without some clips, and answers for them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax

from earshot.labels import UNKNOWN
from training.data.heard import count_heard, too_kind
from training.evaluation.answers import Answers
from training.evaluation.metrics import calibration, judge, rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from training.data.clips import Clip
    from training.recipe import Recipe, Trained

RANDOM_SHARE = 0.1
"""Share of the clips that the tutorial's random split tests on."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A model, and its answers for clips that it never saw."""

    trained: Trained
    answers: Answers
    before: Answers
    """What it would have answered before it was calibrated."""
    heard: frozenset[str]
    """Recordings that its network was taught by before, without their labels."""
    never_learnt: tuple[str, ...]
    """Classes of which all clips are among those that it never saw."""

    @property
    def of_training(self) -> list[str]:
        """What whoever reads its figures should know of what it learnt."""
        never = (
            f"All clips of {name} are among those that are judged: what never learnt it cannot name it, so its recall "
            "says nothing."
            for name in self.never_learnt
        )
        return [*self.trained.notes, *never]

    @property
    def notes(self) -> list[str]:
        """What whoever reads its figures should know."""
        return [*too_kind(self.heard, set(self.answers.clips)), *self.of_training]

    def figures(self) -> dict[str, Any]:
        """All figures, what training chose, and each clip's answer, as JSON values."""
        figures = _figures(self.answers, self.before)
        return {
            **self.trained.chosen,
            "temperature": round(self.trained.temperature, 3),
            "thresholds": [round(threshold, 4) for threshold in self.trained.thresholds],
            **figures,
            "heard_clips": count_heard(self.heard, self.answers.clips),
            "notes": [*self.notes, *figures["notes"]],
            "answers": rows(self.answers),
        }


def judged_without(recipe: Recipe, unseen: Sequence[Clip], class_names: Sequence[str]) -> Judgement:
    """Train on all clips of `recipe` but `unseen`, and have these answered."""
    left_out = set(unseen)
    learnt = [clip for clip in recipe.clips if clip not in left_out]
    trained = recipe.train(learnt, class_names)
    scores = recipe.scores(trained, unseen)
    least = np.finfo(np.float32).tiny
    before = {
        clip: softmax(np.log(np.maximum(one, least)) * trained.temperature, axis=1) for clip, one in scores.items()
    }
    answers = Answers.of(scores, class_names, trained.thresholds)
    never = {clip.label for clip in unseen} - {clip.label for clip in learnt} - {UNKNOWN}
    return Judgement(trained, answers, Answers.of(before, class_names), recipe.heard, tuple(sorted(never)))


def pooled(judgements: Sequence[Judgement]) -> dict[str, Any]:
    """The figures of several, each on its own clips, taken together."""
    figures = _figures(
        Answers.pooled([one.answers for one in judgements]), Answers.pooled([one.before for one in judgements])
    )
    heard = frozenset[str]().union(*(one.heard for one in judgements))
    kind = too_kind(heard, {clip for one in judgements for clip in one.answers.clips})
    of_training = dict.fromkeys(note for one in judgements for note in one.of_training)
    return {**figures, "notes": [*kind, *of_training, *figures["notes"]]}


def random_split(clips: Iterable[Clip]) -> list[Clip]:
    """The clips that the tutorial would have tested on: any, by a hash of their names.

    Clips of one recording are on both sides, so what it says is how well recordings are known again.
    """
    return [clip for clip in clips if _share(clip.path.name) < RANDOM_SHARE]


def _share(name: str) -> float:
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:4]) / 2**32


def _figures(answers: Answers, before: Answers) -> dict[str, Any]:
    return {**judge(answers), "calibration_before": calibration(before.of_classes)}
