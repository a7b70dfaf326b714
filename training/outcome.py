"""What came of judging a candidate, as the screen, the version's `promotion.json` and its card say it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from training.gate import CONFIDENCE

if TYPE_CHECKING:
    from training.fairness import FairClips
    from training.gate import Comparison


@dataclass(frozen=True, slots=True)
class Compared:
    """The candidate was compared with the version there."""

    figures: Comparison
    fair: FairClips
    against: int
    """That version."""
    data: list[str]
    """Names of the folders of the clips."""
    folds: str

    @property
    def passed(self) -> bool:
        """Whether the candidate is to be published."""
        return self.figures.better

    def event(self) -> dict[str, Any]:
        """The figures, as JSON values."""
        return {
            "data": self.data,
            "folds": self.folds,
            "clips": self.figures.clips,
            "recordings": self.figures.recordings,
            "left_out": self.fair.left_out,
            "accuracy": round(self.figures.candidate, 4),
            "against": {
                "version": self.against,
                "accuracy": round(self.figures.current, 4),
                "clips_seen": self.fair.seen_by_current,
            },
            "difference": round(self.figures.difference, 4),
            "at_least": round(self.figures.lower, 4),
            "confidence": CONFIDENCE,
        }

    def sentence(self) -> str:
        """The figures for the card."""
        one = self.figures
        return (
            f"Of the first 3 s of {one.clips} clips of {one.recordings} recordings ({', '.join(self.data)}, "
            f"folds {self.folds}) it names {one.candidate:.1%} right, version {self.against} {one.current:.1%}: "
            f"{self._lead()}."
        )

    def lines(self) -> str:
        """The figures for the screen."""
        one = self.figures
        return (
            f"first 3 s of {one.clips} clips of {one.recordings} recordings, named right:\n"
            f"  version {self.against:<12} {one.current:6.1%}\n"
            f"  the candidate        {one.candidate:6.1%}\n"
            f"  difference           {self._lead()}"
        )

    def _lead(self) -> str:
        at_least = f"with {CONFIDENCE:.0%} confidence at least {100 * self.figures.lower:+.1f}"
        return f"{100 * self.figures.difference:+.1f} points, {at_least}"


@dataclass(frozen=True, slots=True)
class NotCompared:
    """There was nothing to compare the candidate with, or nothing to compare it on."""

    why: str
    passed: bool

    def event(self) -> dict[str, Any]:
        """Why, as a JSON value."""
        return {"not_compared": self.why}

    def sentence(self) -> str:
        """Why, for the card."""
        return f"It was not compared with another version: {self.why}."

    def lines(self) -> str:
        """Why, for the screen."""
        return f"not compared: {self.why}"


def reservations(fair: FairClips, against: int) -> list[str]:
    """What is to be said before the figures, so that nobody trusts them too much, a line each."""
    lines = []
    if fair.left_out:
        lines.append(f"{fair.left_out} clips left out: the candidate was trained on their recordings")
    if not fair.known:
        lines.append("the candidate does not say what it was trained on: its figure may be too kind")
    if fair.seen_by_current is None:
        lines.append(f"version {against} does not say what it was trained on: its figure may be too kind")
    elif fair.seen_by_current:
        lines.append(
            f"version {against} was trained on the recordings of {fair.seen_by_current} of these {len(fair.clips)} "
            "clips: its figure is too kind, so the comparison is hard on the candidate"
        )
    return lines
