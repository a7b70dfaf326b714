"""The head: multinomial logistic regression on standardised principal components, folded into one dense layer.

How strongly it is regularised is chosen by cross-validation inside the training clips, whole recordings held out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from serving.network import Head

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3)
"""Inverse strengths of the L2 penalty that are tried."""

COMPONENTS = 512
INNER_FOLDS = 4


def train_head(
    features: NDArray[np.float32], targets: NDArray[np.int64], groups: Sequence[str], classes: int, seed: int = 0
) -> tuple[Head, float]:
    """Train on features float32 [n, features] with class indices `targets` [n].

    groups: the recording of each row; rows of one recording are never on both sides of a split. Two recordings of
    different classes are the least. Returns the head and the strength that was chosen.
    """
    inner = GroupKFold(min(INNER_FOLDS, len(set(groups))))
    hits = np.zeros(len(STRENGTHS))
    for train, test in inner.split(features, targets, groups):
        if np.unique(targets[train]).size < 2:  # nothing to tell apart: the other splits choose
            continue
        project = _Projection(features[train], seed)
        rows, unseen = project(features[train]), project(features[test])
        for number, strength in enumerate(STRENGTHS):
            predicted = _regression(strength).fit(rows, targets[train]).predict(unseen)
            hits[number] += (predicted == targets[test]).sum()
    strength = STRENGTHS[int(hits.argmax())]
    project = _Projection(features, seed)
    regression = _regression(strength).fit(project(features), targets)
    return project.fold(regression, classes), strength


def _regression(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, tol=1e-3, max_iter=1000)


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
        whole_bias = np.full(classes, -1e9, dtype=np.float32)  # a class that training never saw scores nothing
        whole_kernel[:, regression.classes_] = kernel
        whole_bias[regression.classes_] = bias
        return Head(((whole_kernel, whole_bias),))
