"""Scores that mean what they say, and the score below which a class is not believed.

Both are chosen on clips that the model in question never saw, from among those that it may train on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from serving.network import Head
from training.heads.balance import ROUNDING
from training.heads.parts import LEAST_CALIBRATING, LEAST_LEARNT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LEAST_ANSWERED = 10
"""Recordings that a class is the answer to, rightly or not, below which a threshold chosen by them would be chance."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What makes a model's scores mean what they say."""

    temperature: float
    """What logits are divided by."""
    thresholds: tuple[float, ...]
    """Score of each class below which it is not believed."""
    notes: tuple[str, ...] = ()
    """What whoever reads its figures should know."""

    @classmethod
    def none(cls, recordings: int, classes: int) -> Calibration:
        """Scores that stay as they are, as so few `recordings` of classes tell of them."""
        note = f"Scores are not calibrated, and have no thresholds: {recordings} recordings could tell of them."
        return cls(1.0, (0.0,) * classes, (note,))


def calibrate(
    logits: NDArray[np.floating],
    targets: NDArray[np.integer],
    weights: NDArray[np.floating],
    sources: Sequence[str],
    *,
    background: int | None,
    precision: float,
) -> Calibration:
    """By what a model, or others like it, said of sounds that it had not learnt from.

    Fewer than `LEAST_CALIBRATING` recordings of classes calibrate nothing. logits: [n, classes]. targets, weights,
    sources: class of each sound, how much it counts, and its recording, [n]. background: class of sounds of no
    class, if there is one; where there are two others thresholds alone go by these. precision: of the thresholds, see
    `choose_thresholds`.
    """
    recordings = len({source for source, target in zip(sources, targets, strict=True) if target != background})
    if recordings < LEAST_CALIBRATING:
        return Calibration.none(recordings, logits.shape[1])
    decides = of_classes(targets, background)
    temperature = fit_temperature(logits[decides], targets[decides], weights[decides])
    scores = softmax(logits / temperature, axis=1)
    return Calibration(temperature, choose_thresholds(scores, targets, weights, sources, precision))


def fit_temperature(logits: NDArray[np.floating], targets: NDArray[np.integer], weights: NDArray[np.floating]) -> float:
    """What `logits` [n, classes] are to be divided by, so that their softmax is most likely to have made `targets` [n].

    weights: as how many answers each counts, [n].

    Temperature scaling (Guo et al. 2017): above 1 where a model is surer of itself than it should be. It changes no
    answer. Before any answer is seen its logarithm is taken to be 0, give or take 1: where no answer is wrong, what is
    likeliest without that makes all scores 1.
    """

    def unlikely(log_temperature: float) -> float:
        scores = log_softmax(logits / np.exp(log_temperature), axis=1)
        return log_temperature**2 / 2 - float(scores[np.arange(len(targets)), targets] @ weights)

    return float(np.exp(minimize_scalar(unlikely, bounds=(np.log(0.05), np.log(20.0)), method="bounded").x))


def log_loss(logits: NDArray[np.floating], targets: NDArray[np.integer], weights: NDArray[np.floating]) -> float:
    """Mean log loss of `logits` [n, classes] at the temperature that is fitted to them; 0 where n is 0.

    So a model that is only too sure of itself looks no worse for it, and of two that name the same one may still be
    better. The arguments are as `fit_temperature` has them.
    """
    if not len(targets):
        return 0.0
    scores = log_softmax(logits / fit_temperature(logits, targets, weights), axis=1)
    return -float(np.average(scores[np.arange(len(targets)), targets], weights=weights))


def of_classes(truth: NDArray[np.integer], background: int | None) -> NDArray[np.bool_]:
    """Which answers, [n], a temperature goes by: those about sounds of classes, if these are of two classes.

    How many sounds of background there are, class `background`, is no sign of how sure a model may be of the others.
    """
    classes = truth != (-1 if background is None else background)
    return classes if len(np.unique(truth[classes])) >= LEAST_LEARNT else np.ones(len(truth), dtype=bool)


def cooled(head: Head, temperature: float) -> Head:
    """`head` with its logits divided by `temperature`, within the last layer."""
    *layers, (kernel, bias) = head.layers
    return Head((*layers, (kernel / np.float32(temperature), bias / np.float32(temperature))))


def choose_thresholds(
    scores: NDArray[np.floating],
    targets: NDArray[np.integer],
    weights: NDArray[np.floating],
    sources: Sequence[str],
    precision: float,
) -> tuple[float, ...]:
    """Of each class, the least score from which on at least a share `precision` of its answers are right.

    scores: [n, classes]. targets, weights, sources: class of each sound, -1 where it is of none, how much it counts,
    and its recording, [n]; a share is of `LEAST_ANSWERED` recordings or more. A class that reaches it nowhere gets the
    score at which it comes closest; one that is the answer to too few recordings to tell, or that none of the sounds is
    of, so that each answer is wrong whatever its score, gets 0.
    """
    answers, best, recordings = scores.argmax(axis=1), scores.max(axis=1, initial=0.0), np.array(sources)
    thresholds = []
    for number in range(scores.shape[1]):
        own = np.flatnonzero(answers == number)
        order = own[np.argsort(-best[own], kind="stable")]
        counted = _different(recordings[order]) >= LEAST_ANSWERED
        if not counted.any() or number not in targets:
            thresholds.append(0.0)
            continue
        right = np.cumsum(weights[order] * (targets[order] == number)) / np.cumsum(weights[order])
        enough = np.flatnonzero(counted & (right >= precision - ROUNDING))
        last = enough[-1] if enough.size else np.flatnonzero(counted)[right[counted].argmax()]
        thresholds.append(0.0 if last == own.size - 1 else float(best[order[last]]))
    return tuple(thresholds)


def _different(sources: NDArray[np.str_]) -> NDArray[np.int64]:
    """How many different ones there are up to each of `sources`, [n]."""
    new = np.zeros(len(sources), dtype=np.int64)
    new[np.unique(sources, return_index=True)[1]] = 1
    return new.cumsum()
