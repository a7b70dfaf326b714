"""Which clips are fair to compare two versions on: those of recordings that neither of them knows.

A version knows those that its head was trained on, and those that its weights were taught by without their labels.
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
    "with --data name sounds that are new to both, recorded since, say, or with --folds some that both were trained "
    "without (--hold-out), on weights that were not taught by them"
)
"""How there come to be clips that are new to both."""


class NotComparable(ValueError):
    """The candidate cannot be compared with the version there; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class UnseenClips:
    """Clips of recordings that neither version knows."""

    clips: list[Clip]
    known_to_candidate: int
    """How many others the candidate knows."""
    known_to_current: int
    """How many more the version there knows."""

    def known(self, current: str) -> list[tuple[str, int]]:
        """Who knows how many of the clips that are left out; the version there is called `current`."""
        of_each = ("the candidate", self.known_to_candidate), (current, self.known_to_current)
        return [(whose, count) for whose, count in of_each if count]

    @property
    def left_out(self) -> str:
        """Which clips beside these are left out, in words; empty where none are."""
        return " and ".join(
            f"{whose} knows the recordings of {count}{' more' if second else ''} clips"
            for second, (whose, count) in enumerate(self.known("the version there"))
        )


@dataclass(frozen=True, slots=True)
class FairClips:
    """What two versions are compared on."""

    labelled: UnseenClips
    background: UnseenClips
    """Sounds of no class; there may be none."""
    candidate_tells: bool
    """Whether the candidate says what it was trained on; else all clips are taken for new to it."""
    current_tells: bool
    """Whether the version there does."""
    notes: list[str]
    """What is to be known of the weights of either."""


def fair_clips(labelled: Sequence[Clip], background: Sequence[Clip], candidate: Path, current: Path) -> FairClips:
    """Those clips to compare the versions in two folders on; raises NotComparable where none is new to both."""
    by_candidate, by_current = (_known(version, [*labelled, *background]) for version in (candidate, current))

    def unseen(own: Sequence[Clip]) -> UnseenClips:
        new_to_candidate = [clip for clip in own if clip.source not in (by_candidate or ())]
        new = [clip for clip in new_to_candidate if clip.source not in (by_current or ())]
        return UnseenClips(new, len(own) - len(new_to_candidate), len(new_to_candidate) - len(new))

    notes = [
        f"of {whose}: {note}"
        for whose, version in (("the candidate", candidate), ("the version there", current))
        for note in notes_of_weights(version)
    ]
    fair = FairClips(unseen(labelled), unseen(background), by_candidate is not None, by_current is not None, notes)
    if not fair.labelled.clips:
        left_out = fair.labelled.left_out
        raise NotComparable(f"of {len(labelled)} clips none is new to both: {left_out}; {NEW_CLIPS}")
    return fair


def _known(version_dir: Path, clips: Sequence[Clip]) -> frozenset[str] | None:
    """Recordings that a version was trained on, and those of `clips` that its weights have heard."""
    seen = recordings_seen(version_dir)
    return None if seen is None else seen | heard_recordings(sounds_heard(version_dir), clips)
