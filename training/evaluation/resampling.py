"""How sure a share of clips is, by the bootstrap: the percentile interval (Efron and Tibshirani 1993) over recordings.

Clips of one recording sound alike, so they are no independent witnesses: whole recordings are drawn, not clips.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONFIDENCE = 0.95
LEAST_RECORDINGS = 10
"""With fewer the bootstrap is too sure of itself: two recordings on which one model wins would be proof to it."""
_RESAMPLES = 10_000


def share_interval(
    gained: NDArray[np.int64], of: NDArray[np.int64], alternative: Literal["two-sided", "greater"], seed: int = 0
) -> tuple[float, float]:
    """The ends of the 95 % interval of sum(gained) / sum(of), each a number for each recording, [recordings].

    gained: clips that are right, or how many more are than of another model, less than 0 where fewer are. With
    "greater" the interval is one-sided, and its upper end infinite.
    """
    from scipy.stats import bootstrap

    interval = bootstrap(
        (gained, of),
        lambda drawn, clips, axis: drawn.sum(axis=axis) / clips.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=_RESAMPLES,
        batch=_RESAMPLES // 20,
        confidence_level=CONFIDENCE,
        alternative=alternative,
        method="percentile",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)
