"""Whether one model is better than another: a paired bootstrap over recordings, of both their answers to some clips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.evaluation.resampling import LEAST_RECORDINGS, share_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class TooFewRecordings(ValueError):
    """The clips come from too few recordings to say anything; the message says how many."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A candidate beside the model that it is to replace, both on the same clips."""

    candidate: float
    """Share of clips that it names right."""
    current: float
    lower: float
    """Lower end of the one-sided 95 % interval of the difference."""
    clips: int
    recordings: int

    @property
    def difference(self) -> float:
        """By how much the candidate names more right, as a share of the clips."""
        return self.candidate - self.current

    @property
    def better(self) -> bool:
        """Whether the candidate is better beyond doubt."""
        return self.lower > 0


def compare(
    candidate: NDArray[np.bool_], current: NDArray[np.bool_], sources: Sequence[str], seed: int = 0
) -> Comparison:
    """Compare two models by which clips each named right, bool [clips], and by the recording of each clip.

    Raises TooFewRecordings.
    """
    require_recordings(sources)
    lower, _ = share_interval(candidate.astype(int) - current.astype(int), sources, "greater", seed)
    return Comparison(
        candidate=float(np.mean(candidate)),
        current=float(np.mean(current)),
        lower=lower,
        clips=len(candidate),
        recordings=len(set(sources)),
    )


def require_recordings(sources: Sequence[str]) -> None:
    """Raise TooFewRecordings where clips of these recordings, one of each clip, cannot tell which model is better."""
    recordings = len(set(sources))
    if recordings < LEAST_RECORDINGS:
        raise TooFewRecordings(
            f"{len(sources)} clips of {recordings} recordings are too few to compare two models; at least "
            f"{LEAST_RECORDINGS} recordings are needed, name more clips with --data and --folds"
        )
