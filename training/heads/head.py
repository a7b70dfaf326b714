"""The head: multinomial logistic regression on scaled features, folded into one dense layer.

Each tapped block, of each Inception V3, has a regression of its own, and their logits are averaged (late fusion).

How strongly it is regularised is chosen by cross-validation inside the training clips, whole recordings held out; so
are the temperature of its scores and the thresholds below which they are not believed.
"""

from __future__ import annotations

import os
import threading
import warnings
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.progress import track
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from serving.network import Head, mean_head
from training.data.ahead import ahead
from training.heads.balance import balanced
from training.heads.calibration import Calibration, calibrate, cooled, log_loss, of_classes
from training.heads.parts import LEAST_LEARNT, parts_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
"""Inverse strengths of the L2 penalty that are tried, rising: thousands of features of few recordings call for low
ones, few features for high ones."""

_NEVER = -1e9
"""Logit of a class that training never saw."""

_AT_ONCE = 256
"""Features that are in memory in float64 at once: all would be as much as the rest of it together."""
_COPIES_BYTES = 2**30
"""What copies of a block's features, one for each head that is trained at the same time, may take together: two of the
largest block of the default recipe and the whole of UrbanSound8K, 483 MB each, so that all of it stays below 4 GB."""

STEPS = 1000
PARTS = 10
"""That the recordings are dealt into for it, at the most. By fewer, which of them happen to be in one part decides a
good deal: over five seeds the temperature was 0.79 to 0.99 by four, and 0.87 to 0.90 by ten (folds 2 and 3 of
UrbanSound8K, weights that had not heard fold 1, `mixed7` alone, one strength)."""
HEADS = 9
"""Counts the ways in which heads were ever trained: raise it where one comes out otherwise of the same clips, so that
fine-tuning that began with another does not go on."""


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """What heads said of recordings that they had not seen, in cross-validation."""

    scores: NDArray[np.float32]
    """Logarithms, of a head of each of `STRENGTHS`: [strengths, rows, classes]."""
    truth: NDArray[np.int64]
    """Class of each row, [rows]."""
    weights: NDArray[np.floating]
    """How much each row counts in the loss, [rows]: the strength is chosen by it."""
    counts: NDArray[np.floating]
    """How much each row counts in what scores are calibrated by, [rows]."""
    sources: tuple[str, ...]
    """Recording of each row."""

    @classmethod
    def together(cls, several: Sequence[OutOfFold]) -> OutOfFold:
        """Those of several networks; a row that several were asked about counts once for each."""
        scores = np.concatenate([one.scores for one in several], axis=1)
        truth = np.concatenate([one.truth for one in several])
        weights = np.concatenate([one.weights for one in several])
        counts = np.concatenate([one.counts for one in several])
        return cls(scores, truth, weights, counts, tuple(source for one in several for source in one.sources))


@dataclass(frozen=True, slots=True)
class TrainedHead:
    """A head, and what was chosen for it."""

    head: Head
    """Its scores are calibrated."""
    strength: float
    """Inverse strength of the L2 penalty: the strongest penalty, which claims least, where nothing could be asked."""
    accuracy: float | None
    """Of the cross-validated answers, as much as each counts in calibration: what recipes can be compared by without a
    test fold."""
    calibration: Calibration
    """By the same answers."""
    converged: bool
    """Whether the solver came to its end within the steps that it was given."""


def train_head(
    features: NDArray[np.float32],
    targets: NDArray[np.int64],
    weights: NDArray[np.floating],
    classes: int,
    out_of_fold: OutOfFold,
    *,
    precision: float = 0.0,
    steps: int = STEPS,
    balance: bool = False,
    widths: Sequence[int] = (),
    background: int | None = None,
) -> TrainedHead:
    """Train on features float32 [n, features] with class indices `targets` [n].

    weights: how much each row counts in the loss, [n], as much in all as there are rows. out_of_fold: what strength,
    temperature and thresholds are chosen by. precision: as `calibrate` has it. steps: the most that the solver takes
    for each strength. balance: have each class count alike, in the loss and in what is chosen. widths: features of each
    tapped block, in order; none are one block. background: index of the class of sounds of no class; where there are
    two others it does not choose the strength.
    """
    truth = out_of_fold.truth
    decides = of_classes(truth, background)
    in_loss, counts = (
        balanced(own, truth, classes) if balance else own for own in (out_of_fold.weights, out_of_fold.counts)
    )
    losses = [log_loss(scores[decides], truth[decides], in_loss[decides]) for scores in out_of_fold.scores]
    best = int(np.argmin(losses))
    tried = STRENGTHS[: best + 1]
    how = np.arange(len(targets)), targets, weights, classes, tried, steps, balance
    with _training():
        ends = [[*_path(block, *how)][-1] for block in _split(features, widths)]
    heads, converged = zip(*ends, strict=True)
    hits = out_of_fold.scores[best, decides].argmax(axis=1) == truth[decides]
    calibration = calibrate(
        out_of_fold.scores[best],
        truth,
        counts,
        out_of_fold.sources,
        background=background,
        precision=precision,
    )
    return TrainedHead(
        cooled(mean_head(heads), calibration.temperature),
        STRENGTHS[best],
        float(np.average(hits, weights=out_of_fold.counts[decides])) if truth.size else None,
        calibration,
        all(converged),
    )


def cross_validated(
    features: NDArray[np.float32],
    targets: NDArray[np.int64],
    weights: NDArray[np.floating],
    groups: Sequence[str],
    classes: int,
    *,
    seed: int = 0,
    steps: int = STEPS,
    balance: bool = False,
    widths: Sequence[int] = (),
    asked: NDArray[np.bool_] | None = None,
    counts: NDArray[np.floating] | None = None,
) -> OutOfFold:
    """What heads that are trained without a part of the recordings, each, say of that part, under a progress bar.

    Several are trained at the same time, one on each core, as long as copies of the features take little memory.

    groups: the recording of each row; rows of one recording are never on both sides of a split. Two recordings of
    different classes are the least. seed: of the parts that they are dealt into. asked: of which rows, [n], it is kept;
    None are all. counts: how much each row counts in what scores are calibrated by, [n]; None is as in the loss. The
    others are as `train_head` has them.
    """
    blocks = _split(features, widths)
    wanted = np.ones(len(targets), dtype=bool) if asked is None else asked
    parts = [(learnt, kept_out[wanted[kept_out]]) for learnt, kept_out in parts_of(targets, groups, PARTS, seed)]
    parts = [(learnt, kept_out) for learnt, kept_out in parts if kept_out.size]
    if len({number for _, kept_out in parts for number in targets[kept_out].tolist()}) < LEAST_LEARNT:
        parts = []  # as of noises alone, where each class has one recording: they tell nothing of the classes
    stopped = threading.Event()

    def answers(part: tuple[NDArray[np.int64], NDArray[np.int64]]) -> NDArray[np.float32]:
        learnt, kept_out = part
        how = learnt, targets[learnt], weights[learnt], classes, STRENGTHS, steps, balance
        sums = np.zeros((len(STRENGTHS), len(kept_out), classes), dtype=np.float32)
        for block in blocks:
            for number, (head, _) in enumerate(_path(block, *how)):
                if stopped.is_set():
                    raise CancelledError
                sums[number] += _log_scores(head, block[kept_out])
        sums /= len(blocks)
        return sums

    said = [np.zeros((len(STRENGTHS), 0, classes), dtype=np.float32)]
    at_once = max(1, min(os.cpu_count() or 1, _COPIES_BYTES // max(1, *(block.nbytes for block in blocks))))
    with _training(), ThreadPoolExecutor(at_once) as pool:
        done = ahead(pool, parts, answers, most=at_once)
        try:
            said += [scores for _, scores in track(done, "heads", total=len(parts), disable=not parts)]
        except BaseException:  # Ctrl-C: the pool waits for what has begun, to the next strength at the most
            stopped.set()
            raise
    answered = np.concatenate([np.zeros(0, dtype=np.int64), *(kept_out for _, kept_out in parts)])
    counted = weights if counts is None else counts
    return OutOfFold(
        np.concatenate(said, axis=1),
        targets[answered],
        weights[answered],
        counted[answered],
        tuple(groups[row] for row in answered),
    )


def never_seen(head: Head) -> NDArray[np.bool_]:
    """Of which classes a head of one layer, [classes], had no clip to learn from."""
    _, bias = head.layers[0]
    return np.asarray(bias < _NEVER / 1e3)  # it is divided by a temperature


def _split(features: NDArray[np.float32], widths: Sequence[int]) -> list[NDArray[np.float32]]:
    """The features of each tapped block."""
    return np.split(features, np.cumsum(widths)[:-1], axis=1)


@contextmanager
def _training() -> Iterator[None]:
    """Each head has one thread: with two it takes twice as long, tens of times where other programs want the cores.

    Nothing is warned of those that do not converge: `_path` returns which did.
    """
    with threadpool_limits(1), warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        yield


def _path(
    features: NDArray[np.float32],
    learnt: NDArray[np.int64],
    targets: NDArray[np.int64],
    weights: NDArray[np.floating],
    classes: int,
    strengths: Sequence[float],
    steps: int,
    balance: bool,
) -> Iterator[tuple[Head, bool]]:
    """A head for each of the rising `strengths`, of one layer that scales and does what a regression does.

    With each, whether the solver came to its end within `steps`. Each regression begins with what the one before came
    to, so that it has less to do. learnt: the rows of `features` that `targets` and `weights` are of, of which it has a
    copy in memory.
    """
    rows = features[learnt]
    mean, scale = _scaling(rows, weights)
    rows -= mean
    rows /= scale
    counts = balanced(weights, targets, classes) if balance else weights
    regression = LogisticRegression(max_iter=steps, warm_start=True)
    for strength in strengths:
        regression.set_params(C=strength).fit(rows, targets, counts)
        coefficients, intercepts = regression.coef_, regression.intercept_
        if len(regression.classes_) == 2:  # scikit-learn then has one row, of the log odds
            coefficients = np.concatenate([-coefficients, coefficients]) / 2
            intercepts = np.concatenate([-intercepts, intercepts]) / 2
        kernel = np.zeros((rows.shape[1], classes), dtype=np.float32)
        bias = np.full(classes, _NEVER, dtype=np.float32)
        own = coefficients.T / scale[:, None]
        kernel[:, regression.classes_] = own
        bias[regression.classes_] = intercepts - mean @ own
        yield Head(((kernel, bias),)), bool((regression.n_iter_ < steps).all())


def _scaling(
    rows: NDArray[np.float32], weights: NDArray[np.floating]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What is taken from each feature of `rows` [n, features], and what it is then divided by: mean and deviation.

    weights: how much each row counts in both, [n]. None is divided by less than the mean of the deviations. A feature
    that hardly varies among a few clips would weigh as much as any other, and be hundreds of deviations away in a clip
    in which it does.
    """
    shares = np.asarray(weights / weights.sum(), dtype=np.float64)
    mean, deviations = np.empty((2, rows.shape[1]))
    for first in range(0, rows.shape[1], _AT_ONCE):
        columns = slice(first, first + _AT_ONCE)
        away = rows[:, columns].astype(np.float64)
        mean[columns] = shares @ away
        away -= mean[columns]
        deviations[columns] = np.sqrt(shares @ np.square(away, out=away))
    least = deviations.mean() or 1.0
    return mean.astype(np.float32), np.maximum(deviations, least).astype(np.float32)


def _log_scores(head: Head, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logarithms of what a head of one layer says of `rows`, [rows, classes]."""
    kernel, bias = head.layers[0]
    return np.asarray(log_softmax(rows @ kernel + bias, axis=1), dtype=np.float32)
