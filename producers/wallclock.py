"""Keeps a live stream's time to the host's clock, from which the sound card drifts, and which may itself be set."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

WINDOW_FRAMES = 333
"""Frames, ten seconds, of which the least late one tells the time: a frame may be heard late, never early."""
TOLERANCE = timedelta(milliseconds=50)
"""An error that is let be."""
NOTHING = timedelta()


class WallClock:
    """One live stream's time against the host's clock."""

    def __init__(self) -> None:
        self._least: timedelta | None = None
        self._frames = 0
        self._began = False

    def correction(self, heard_until: datetime, now: datetime) -> timedelta:
        """What is to be added to the stream's time, asked `now`, when the frame that ended at `heard_until` came.

        The first frame's answer puts the stream on the clock; after that there is one each `WINDOW_FRAMES`.
        """
        error = now - heard_until
        if not self._began:
            self._began = True
            return error
        self._least = error if self._least is None else min(self._least, error)
        self._frames += 1
        if self._frames < WINDOW_FRAMES:
            return NOTHING
        least, self._least, self._frames = self._least, None, 0
        return least if abs(least) > TOLERANCE else NOTHING
