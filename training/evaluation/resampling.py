"""How sure a share of clips is, by the bootstrap: the percentile interval (Efron and Tibshirani 1993) over recordings.

Clips of one recording sound alike, so they are no independent witnesses: whole recordings are drawn, not clips.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CONFIDENCE = 0.95
LEAST_RECORDINGS = 10
"""With fewer the bootstrap is too sure of itself: two recordings on which one model wins would be proof to it."""
_RESAMPLES = 10_000


def share_interval(
    gained: NDArray[np.integer | np.bool_],
    sources: Sequence[str],
    alternative: Literal["two-sided", "greater"],
    seed: int = 0,
) -> tuple[float, float]:
    """The ends of the 95 % interval of the mean of `gained`, [clips], each of the recording that `sources` names.

    gained: 1 where a clip is right; or where another model is wrong, and -1 where that one alone is right. With
    "greater" the interval is one-sided, and its upper end infinite.
    """
    from scipy.stats import bootstrap

    numbers = {source: number for number, source in enumerate(dict.fromkeys(sources))}
    recording = [numbers[source] for source in sources]
    interval = bootstrap(
        (np.bincount(recording, weights=gained), np.bincount(recording)),
        lambda won, clips, axis: won.sum(axis=axis) / clips.sum(axis=axis),
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
