"""What came of judging a candidate, as the screen, the version's `promotion.json` and its card say it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from earshot.labels import UNKNOWN
from training.evaluation.resampling import CONFIDENCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.evaluation.answers import Answers
    from training.evaluation.gate import Comparison
    from training.release.fairness import FairClips


@dataclass(frozen=True, slots=True)
class Labels:
    """What workers would label the clips, by a version's own thresholds: shares of all of them."""

    right: float
    unknown: float
    """An `unknown` is not right, as each clip is of a class."""

    @classmethod
    def of(cls, answers: Answers) -> Self:
        """Those that come of these answers."""
        return cls(float((answers.right & ~answers.unknown).mean()), float(answers.unknown.mean()))

    def event(self) -> dict[str, float]:
        """The shares, as JSON values."""
        return {"right": round(self.right, 4), "unknown": round(self.unknown, 4)}

    def __str__(self) -> str:
        return f"{self.right:6.1%} right, {self.unknown:.1%} unknown"


@dataclass(frozen=True, slots=True)
class FalseAccepts:
    """How often each calls a sound of no class one of its classes, by its own thresholds."""

    candidate: float
    """An hour."""
    current: float
    segments: int
    recordings: int
    data: list[str]
    """Names of the folders of the recordings; those of clips that the class map calls `unknown` are not among them."""

    def of(self) -> str:
        """What was heard."""
        return f"background, {self.segments} segments of {self.recordings} recordings"


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
    labels: Labels
    """Of the candidate. They decide nothing."""
    labels_there: Labels
    """Of the version there."""
    false_accepts: FalseAccepts | None
    """None where no background was heard. They decide nothing."""
    lost: tuple[str, ...]
    """Classes that only the version there knows: whoever waits for their labels would wait in vain."""
    found: list[str]
    """What else the answers showed that is to be said beside the figures, a note each."""

    @property
    def notes(self) -> list[str]:
        """What is to be said beside the figures, so that nobody trusts them too much."""
        return [*reservations(self.fair, self.against), *self.beside, *self.found]

    @property
    def beside(self) -> list[str]:
        """What the candidate does worse, whatever it names right: classes that are lost, labels that are `unknown`."""
        notes = []
        if missing := _missing(self.lost):
            notes.append(f"the candidate does not know {', '.join(missing)}, which version {self.against} does")
        if UNKNOWN in self.lost:
            notes.append(
                f"version {self.against} learnt background too, and the candidate did not; that decides nothing"
            )
        if self.figures.difference >= 0 and self.labels.right < self.labels_there.right:
            notes.append(
                f"the candidate names no fewer clips right than version {self.against}, but labels fewer so: its "
                "thresholds turn more of them into unknown"
            )
        return notes

    @property
    def amiss(self) -> list[str]:
        """Why the candidate is not to be published, if it is not."""
        return _amiss(self.lost, better=self.figures.better)

    def event(self) -> dict[str, Any]:
        """The figures, as JSON values."""
        event: dict[str, Any] = {
            "data": self.data,
            "folds": self.folds,
            "clips": self.figures.clips,
            "recordings": self.figures.recordings,
            "left_out": self.fair.labelled.known_to_candidate,
            "accuracy": round(self.figures.candidate, 4),
            "labels": self.labels.event(),
            "against": {
                "version": self.against,
                "accuracy": round(self.figures.current, 4),
                "labels": self.labels_there.event(),
                "left_out": self.fair.labelled.known_to_current,
            },
            "difference": round(self.figures.difference, 4),
            "at_least": round(self.figures.lower, 4),
            "confidence": CONFIDENCE,
            "notes": self.notes,
        }
        if heard := self.false_accepts:
            event["background"] = {
                "data": heard.data,
                "recordings": heard.recordings,
                "segments": heard.segments,
            }
            event["false_accepts_per_hour"] = heard.candidate
            event["against"]["false_accepts_per_hour"] = heard.current
        return event

    def sentence(self) -> str:
        """The figures for the card."""
        one = self.figures
        said = [
            f"Of the first 3 s of {one.clips} clips of {one.recordings} recordings ({', '.join(self.data)}, "
            f"folds {self.folds}) it names {one.candidate:.1%} right, version {self.against} {one.current:.1%}: "
            f"{self._lead()}. By its own thresholds it labels {self.labels.right:.1%} right and "
            f"{self.labels.unknown:.1%} `unknown`, version {self.against} {self.labels_there.right:.1%} and "
            f"{self.labels_there.unknown:.1%}."
        ]
        if heard := self.false_accepts:
            said.append(
                f"Of {heard.of()}, it makes {heard.candidate:g} false accepts an hour, version "
                f"{self.against} {heard.current:g}."
            )
        return " ".join([*said, *(f"{note[0].upper()}{note[1:]}." for note in self.notes)])

    def lines(self) -> str:
        """The figures for the screen."""
        one = self.figures
        lines = [
            f"first 3 s of {one.clips} clips of {one.recordings} recordings, named right:",
            f"  version {self.against:<12} {one.current:6.1%}",
            f"  the candidate        {one.candidate:6.1%}",
            f"  difference           {self._lead()}",
            "labels, by each one's own thresholds:",
            f"  version {self.against:<12} {self.labels_there}",
            f"  the candidate        {self.labels}",
        ]
        if heard := self.false_accepts:
            lines += [
                f"{heard.of()}, false accepts an hour:",
                f"  version {self.against:<12} {heard.current:6g}",
                f"  the candidate        {heard.candidate:6g}",
            ]
        return "\n".join(lines)

    def _lead(self) -> str:
        at_least = f"with {CONFIDENCE:.0%} confidence at least {100 * self.figures.lower:+.1f}"
        return f"{100 * self.figures.difference:+.1f} points, {at_least}"


@dataclass(frozen=True, slots=True)
class NotCompared:
    """There was nothing to compare the candidate with, or nothing to compare it on."""

    why: str
    first: bool = False
    """Whether there was no version to beat."""
    lost: tuple[str, ...] = ()
    """Classes that only the version there knows, so far as both say what they know."""

    @property
    def amiss(self) -> list[str]:
        """Why the candidate is not to be published, if it is not."""
        return _amiss(self.lost, better=self.first)

    def event(self) -> dict[str, Any]:
        """Why, as a JSON value."""
        return {"not_compared": self.why}

    def sentence(self) -> str:
        """Why, for the card."""
        return f"It was not compared with another version: {self.why}."

    def lines(self) -> str:
        """Why, for the screen."""
        return f"not compared: {self.why}"


def _amiss(lost: Sequence[str], *, better: bool) -> list[str]:
    return [
        *([] if better else ["is not shown to be better"]),
        *([f"does not know {', '.join(missing)}"] if (missing := _missing(lost)) else []),
    ]


def _missing(lost: Sequence[str]) -> list[str]:
    """Classes that are lost, but for background: other labels become `unknown` too, by their thresholds."""
    return [name for name in lost if name != UNKNOWN]


def reservations(fair: FairClips, against: int) -> list[str]:
    """What of the clips is left out, is missing or makes figures too kind, a note each."""
    notes = []
    for unseen, what in ((fair.labelled, "clips"), (fair.background, "sounds of background")):
        notes += [
            f"{count} {what} left out: {whose} was trained on their recordings, or its weights have heard them"
            for whose, count in unseen.known(f"version {against}")
        ]
    if fair.background.left_out and not fair.background.clips:
        notes.append("no background is left that is new to both, so false accepts are not counted")
    if not fair.candidate_tells:
        notes.append("the candidate does not say what it was trained on: its figure may be too kind")
    if not fair.current_tells:
        notes.append(f"version {against} does not say what it was trained on: its figure may be too kind")
    return [*notes, *(note.rstrip(".") for note in fair.notes)]
