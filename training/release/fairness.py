"""Which clips are fair to compare two versions on: those of recordings that the candidate was not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from earshot.labels import UNKNOWN
from serving.inspection import recordings_seen

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from training.data.clips import Clip


class NotComparable(ValueError):
    """The candidate cannot be compared with the version there; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class New:
    """Clips that are new to the candidate."""

    clips: list[Clip]
    left_out: int
    """Clips beside them whose recordings the candidate was trained on."""
    seen_by_current: int | None
    """How many the version there was trained on, which makes its figure too kind; None where it does not say."""


@dataclass(frozen=True, slots=True)
class FairClips:
    """What two versions are compared on."""

    labelled: New
    background: New
    """Sounds of no class; there may be none."""
    known: bool
    """Whether the candidate says what it was trained on; else all clips are taken for new."""


def fair_clips(clips: Sequence[Clip], candidate: Path, current: Path) -> FairClips:
    """Those of `clips` to compare the versions in two folders on; raises NotComparable where the candidate saw all."""
    by_candidate, by_current = recordings_seen(candidate), recordings_seen(current)

    def new(own: list[Clip]) -> New:
        unseen = [clip for clip in own if clip.source not in (by_candidate or ())]
        seen_by_current = None if by_current is None else sum(clip.source in by_current for clip in unseen)
        return New(unseen, len(own) - len(unseen), seen_by_current)

    labelled = new([clip for clip in clips if clip.label != UNKNOWN])
    if not labelled.clips:
        raise NotComparable(
            f"the candidate was trained on the recordings of all {labelled.left_out} clips; name others with --data, "
            "or train it with --hold-out and name those folds with --folds"
        )
    return FairClips(labelled, new([clip for clip in clips if clip.label == UNKNOWN]), by_candidate is not None)
