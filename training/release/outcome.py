"""What came of judging a candidate, as the screen, the version's `promotion.json` and its card say it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from training.evaluation.gate import CONFIDENCE

if TYPE_CHECKING:
    from training.evaluation.gate import Comparison
    from training.release.fairness import FairClips


@dataclass(frozen=True, slots=True)
class FalseAccepts:
    """How often each calls a sound of no class one of its classes, by its own thresholds."""

    candidate: float
    """An hour."""
    current: float
    segments: int


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
    false_accepts: FalseAccepts | None
    """None where there was no background to hear."""

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
            "left_out": self.fair.labelled.left_out,
            "accuracy": round(self.figures.candidate, 4),
            "against": {
                "version": self.against,
                "accuracy": round(self.figures.current, 4),
                "clips_seen": self.fair.labelled.seen_by_current,
            },
            "difference": round(self.figures.difference, 4),
            "at_least": round(self.figures.lower, 4),
            "confidence": CONFIDENCE,
            "background": asdict(self.false_accepts) if self.false_accepts else None,
        }

    def sentence(self) -> str:
        """The figures for the card."""
        one = self.figures
        return (
            f"Of the first 3 s of {one.clips} clips of {one.recordings} recordings ({', '.join(self.data)}, "
            f"folds {self.folds}) it names {one.candidate:.1%} right, version {self.against} {one.current:.1%}: "
            f"{self._lead()}.{self._of_background()}"
        )

    def lines(self) -> str:
        """The figures for the screen."""
        one = self.figures
        return (
            f"first 3 s of {one.clips} clips of {one.recordings} recordings, named right:\n"
            f"  version {self.against:<12} {one.current:6.1%}\n"
            f"  the candidate        {one.candidate:6.1%}\n"
            f"  difference           {self._lead()}{self._heard()}"
        )

    def _of_background(self) -> str:
        if not (heard := self.false_accepts):
            return ""
        return (
            f" Of {heard.segments} segments of background it calls {heard.candidate:g} an hour one of its classes, "
            f"version {self.against} {heard.current:g}."
        )

    def _heard(self) -> str:
        if not (heard := self.false_accepts):
            return ""
        return (
            f"\nfalse accepts an hour, in {heard.segments} segments of background:\n"
            f"  version {self.against:<12} {heard.current:6g}\n"
            f"  the candidate        {heard.candidate:6g}"
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
    for new, what in ((fair.labelled, "clips"), (fair.background, "sounds of background")):
        if new.left_out:
            lines.append(f"{new.left_out} {what} left out: the candidate was trained on their recordings")
        if new.seen_by_current:
            lines.append(
                f"version {against} was trained on the recordings of {new.seen_by_current} of these {len(new.clips)} "
                f"{what}: its figure is too kind, so the comparison is hard on the candidate"
            )
    if not fair.known:
        lines.append("the candidate does not say what it was trained on: its figure may be too kind")
    if fair.labelled.seen_by_current is None:
        lines.append(f"version {against} does not say what it was trained on: its figure may be too kind")
    return lines
