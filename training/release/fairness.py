"""Which clips are fair to compare two versions on: those of recordings that the candidate does not know.

It knows those that its head was trained on, and those that its weights were taught by without their labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from serving.inspection import notes_of_weights, recordings_seen, sounds_heard
from training.data.heard import heard_recordings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from training.data.clips import Clip

NEW_CLIPS = (
    "name others with --data, or train it with --hold-out, on weights that were not taught by those folds, and name "
    "them with --folds"
)
"""How there come to be clips that a candidate was not trained on."""


class NotComparable(ValueError):
    """The candidate cannot be compared with the version there; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class UnseenClips:
    """Clips of recordings that the candidate does not know."""

    clips: list[Clip]
    left_out: int
    """Clips beside them."""
    seen_by_current: int | None
    """How many the version there knows, which makes its figure too kind; None where it does not say."""


@dataclass(frozen=True, slots=True)
class FairClips:
    """What two versions are compared on."""

    labelled: UnseenClips
    background: UnseenClips
    """Sounds of no class; there may be none."""
    known: bool
    """Whether the candidate says what it was trained on; else all clips are taken for new."""
    notes: list[str]
    """What is to be known of the weights of either."""


def fair_clips(labelled: Sequence[Clip], background: Sequence[Clip], candidate: Path, current: Path) -> FairClips:
    """Those clips to compare the versions in two folders on; raises NotComparable where the candidate saw all."""
    by_candidate, by_current = (_known(version, [*labelled, *background]) for version in (candidate, current))

    def unseen(own: Sequence[Clip]) -> UnseenClips:
        new = [clip for clip in own if clip.source not in (by_candidate or ())]
        seen_by_current = None if by_current is None else sum(clip.source in by_current for clip in new)
        return UnseenClips(new, len(own) - len(new), seen_by_current)

    notes = [
        f"of {whose}: {note}"
        for whose, version in (("the candidate", candidate), ("the version there", current))
        for note in notes_of_weights(version)
    ]
    fair = FairClips(unseen(labelled), unseen(background), by_candidate is not None, notes)
    if not fair.labelled.clips:
        raise NotComparable(
            f"the candidate was trained on the recordings of all {len(labelled)} clips, or its weights have heard "
            f"them; {NEW_CLIPS}"
        )
    return fair


def _known(version_dir: Path, clips: Sequence[Clip]) -> frozenset[str] | None:
    """Recordings that a version was trained on, and those of `clips` that its weights have heard."""
    seen = recordings_seen(version_dir)
    return None if seen is None else seen | heard_recordings(sounds_heard(version_dir), clips)
