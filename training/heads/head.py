"""The head: multinomial logistic regression on standardised principal components, folded into one dense layer.

Each tapped block has a regression of its own, and their logits are averaged (late fusion).

How strongly it is regularised, and of how many blocks, is chosen by cross-validation inside the training clips, whole
recordings held out; so are the temperature of its scores and the thresholds below which they are not believed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import log_softmax, softmax
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from serving.network import Head
from training.heads.balance import class_weights
from training.heads.calibration import choose_thresholds, cooled, fit_temperature

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3)
"""Inverse strengths of the L2 penalty that are tried."""

_NEVER = -1e9
"""Logit of a class that training never saw."""
LEAST_LEARNT = 2
"""Recordings, and classes, that a head needs: with fewer there is nothing to tell apart."""

COMPONENTS = 512
STEPS = 1000
INNER_FOLDS = 4


@dataclass(frozen=True, slots=True)
class TrainedHead:
    """A head, and what was chosen for it."""

    head: Head
    """Its scores are calibrated."""
    strength: float
    """Inverse strength of the L2 penalty."""
    blocks: int
    """Tapped blocks that it goes by, the last ones: what others say is multiplied by 0."""
    accuracy: float
    """Of the cross-validated answers that it was chosen by: what recipes can be compared by without a test fold."""
    temperature: float
    """What its logits were divided by."""
    thresholds: tuple[float, ...]
    """Score of each class below which it is not believed."""


def train_head(
    features: NDArray[np.float32],
    targets: NDArray[np.int64],
    groups: Sequence[str],
    classes: int,
    seed: int = 0,
    precision: float = 0.0,
    steps: int = STEPS,
    balance: bool = False,
    widths: Sequence[int] = (),
) -> TrainedHead:
    """Train on features float32 [n, features] with class indices `targets` [n].

    groups: the recording of each row; rows of one recording are never on both sides of a split. Two recordings of
    different classes are the least. precision: of the thresholds, see `choose_thresholds`. steps: the most that the
    solver takes. balance: have each class count alike in the loss, however many rows it has. widths: features of each
    tapped block, in order; none are one block.
    """
    parts = np.split(features, np.cumsum(widths)[:-1], axis=1)
    inner = GroupKFold(min(INNER_FOLDS, len(set(groups))))
    said = np.full((len(parts), len(STRENGTHS), len(targets), classes), _NEVER, dtype=np.float32)
    judged = np.zeros(len(targets), dtype=bool)
    for train, test in inner.split(features, targets, groups):
        known = np.unique(targets[train])
        if known.size < 2:  # nothing to tell apart: the other splits choose
            continue
        for number, part in enumerate(parts):
            project = _Projection(part[train], seed)
            rows, unseen = project(part[train]), project(part[test])
            for own, strength in zip(said[number], STRENGTHS, strict=True):
                own[np.ix_(test, known)] = _log_scores(_fitted(rows, targets[train], strength, steps, balance), unseen)
        judged[test] = np.isin(targets[test], known)  # of a class that it never saw a model can say nothing
    fused = np.stack([said[-count:].mean(axis=0) for count in range(len(parts), 0, -1)])
    hits = (fused.argmax(axis=3) == targets)[:, :, judged]
    best_of = hits.sum(axis=2).argmax(axis=1)
    first = _surely_better(hits[np.arange(len(parts)), best_of], np.array(groups)[judged])
    best = int(best_of[first])
    heads = []
    for part in parts[first:]:
        project = _Projection(part, seed)
        heads.append(project.fold(_fitted(project(part), targets, STRENGTHS[best], steps, balance), classes))
    unseen, truth = fused[first, best][judged], targets[judged]
    temperature = fit_temperature(unseen, truth) if judged.any() else 1.0
    return TrainedHead(
        cooled(_averaged(heads, features.shape[1]), temperature),
        STRENGTHS[best],
        len(heads),
        float(hits[first, best].mean()) if judged.any() else 0.0,
        temperature,
        choose_thresholds(softmax(unseen / temperature, axis=1), truth, precision),
    )


def _surely_better(hits: NDArray[np.bool_], groups: NDArray[np.str_]) -> int:
    """Which row of `hits` [choices, n] has most of them, if the first has fewer by more than a standard error; else 0.

    The error is of sums over whole recordings, as rows of one, of `groups` [n], are right or wrong together.
    """
    best = int(hits.sum(axis=1).argmax())
    gained = hits[best].astype(int) - hits[0]
    _, recording = np.unique(groups, return_inverse=True)
    return best if gained.sum() > np.sqrt(np.sum(np.bincount(recording, gained) ** 2)) else 0


def never_seen(head: Head) -> NDArray[np.bool_]:
    """Of which classes a head of one layer, [classes], had no clip to learn from."""
    _, bias = head.layers[0]
    return np.asarray(bias < _NEVER / 1e3)  # it is divided by a temperature


def _averaged(heads: Sequence[Head], width: int) -> Head:
    """One layer whose logits are the mean of what each head, of one layer, says of its own features.

    Theirs are the last of `width` features; those before count for nothing.
    """
    kernels, biases = zip(*(head.layers[0] for head in heads), strict=True)
    kernel, bias = np.concatenate(kernels) / len(heads), np.mean(biases, axis=0)
    kernel = np.pad(kernel, ((width - len(kernel), 0), (0, 0)))
    return Head(((kernel.astype(np.float32), bias.astype(np.float32)),))


def _fitted(
    rows: NDArray[np.float32], targets: NDArray[np.int64], strength: float, steps: int, balance: bool
) -> LogisticRegression:
    weights = class_weights(targets, int(targets.max()) + 1)[targets] if balance else None
    return LogisticRegression(C=strength, tol=1e-3, max_iter=steps).fit(rows, targets, weights)


def _log_scores(regression: LogisticRegression, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logarithms of its scores [rows, classes]; scikit-learn's own are infinite where a score is too small a float."""
    logits = regression.decision_function(rows)
    if logits.ndim == 1:  # two classes: the log odds of the second
        logits = np.stack([np.zeros_like(logits), logits], axis=1)
    return np.asarray(log_softmax(logits, axis=1), dtype=np.float32)


class _Projection:
    """Standardisation, then principal components."""

    def __init__(self, features: NDArray[np.float32], seed: int) -> None:
        self._scaler = StandardScaler().fit(features)
        components = min(COMPONENTS, *features.shape)
        self._pca = PCA(components, random_state=seed, svd_solver="randomized").fit(self._scaler.transform(features))

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(self._pca.transform(self._scaler.transform(features)), dtype=np.float32)

    def fold(self, regression: LogisticRegression, classes: int) -> Head:
        """The one layer that does what scaling, projection and regression do."""
        coefficients, intercepts = regression.coef_, regression.intercept_
        if len(regression.classes_) == 2:  # scikit-learn then has one row, of the log odds
            coefficients = np.concatenate([-coefficients, coefficients]) / 2
            intercepts = np.concatenate([-intercepts, intercepts]) / 2
        kernel = self._pca.components_.T @ coefficients.T
        bias = intercepts - self._pca.mean_ @ kernel
        kernel = kernel / self._scaler.scale_[:, None]
        bias = bias - self._scaler.mean_ @ kernel
        whole_kernel = np.zeros((kernel.shape[0], classes), dtype=np.float32)
        whole_bias = np.full(classes, _NEVER, dtype=np.float32)
        whole_kernel[:, regression.classes_] = kernel
        whole_bias[regression.classes_] = bias
        return Head(((whole_kernel, whole_bias),))
