"""The segmenter: cuts three-second segments out of one stream, where the gate hears something.

A segment begins half a second before the frame that opened it (the pre-roll) and has exactly 48,000 samples. Where the
sound goes on at its end, the next one begins with the very next sample. No sample is ever in two segments.
"""

from __future__ import annotations

import itertools
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from earshot.audio import SAMPLE_RATE_HZ, SEGMENT_SAMPLES, fit_segment, level_dbfs
from earshot.segments import Segment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from numpy.typing import NDArray

    from earshot.segments import Trigger
    from producers.gate import Activity

LARGEST_SLIP_S = 1.0
"""Seconds back by which a clock drifts; where it goes back further it was set, and segments follow it."""
MIN_TAIL_SAMPLES = SAMPLE_RATE_HZ // 2
"""A continued piece with less sound than this at the stream's end is dropped, as `earshot.audio.windows` does."""


class Segmenter:
    """One stream's segmenter; a new stream needs a new one."""

    def __init__(
        self,
        device_id: str,
        started: datetime,
        sequences: Iterator[int] | None = None,
        *,
        pre_roll_s: float = 0.5,
        hang_over_s: float = 0.3,
    ) -> None:
        """`started` is when the first sample was heard, aware; `sequences` numbers the segments of several streams."""
        self._device_id = device_id
        self._started = started
        self._sequences = sequences if sequences is not None else itertools.count()
        self._pre_roll = round(pre_roll_s * SAMPLE_RATE_HZ)
        self._hang_over = round(hang_over_s * SAMPLE_RATE_HZ)
        self._held = np.empty(0, dtype=np.int16)  # the open segment, or what may become the next one's pre-roll
        self._position = 0  # samples of the stream so far
        self._active_until = 0  # position at which the gate last heard something
        self._trigger: Trigger | None = None  # None while no segment is open
        self._ended: datetime | None = None  # when the last segment did

    @property
    def heard_until(self) -> datetime:
        """When the stream's last sample was heard."""
        return self._time(self._position)

    def correct(self, by: timedelta) -> bool:
        """Move the time of all that follows, back only as far as no two segments overlap for it; whether it moved.

        So the time of a sound that goes on is never torn: it is put right once the sound is over. A clock that was set
        back is followed all the same.
        """
        if self._trigger is not None:
            return False
        if by.total_seconds() <= -LARGEST_SLIP_S:
            self._ended = None  # times begin anew
        elif self._ended is not None:
            next_start = self._time(self._position - min(self._held.size, self._pre_roll))  # at the earliest
            by = max(by, self._ended - next_start)
        self._started += by
        return by != timedelta()

    def push(self, frame: NDArray[np.int16], activity: Activity) -> Segment | None:
        """Take the next `frame` (int16 [n]) and what the gate makes of it; the segment that it completes, if any."""
        if self._trigger is None:
            self._held = self._held[max(self._held.size - self._pre_roll, 0) :]
            self._trigger = activity.trigger
        self._held = np.concatenate([self._held, frame])
        self._position += frame.size
        if activity.active:
            self._active_until = self._position
        return self._cut_full()

    def skip(self, samples: int) -> Segment | None:
        """`samples` of the stream were lost: an open segment has silence in their place, and ends after three seconds.

        Returns the segment that this completes, if any.
        """
        silent = min(samples, SEGMENT_SAMPLES - self._held.size) if self._trigger else 0
        self._held = np.concatenate([self._held, np.zeros(silent, dtype=np.int16)])
        self._position += silent
        segment = self._cut_full()
        if samples > silent:
            self._held = np.empty(0, dtype=np.int16)
            self._position += samples - silent
            self._trigger = None
        return segment

    def flush(self) -> Segment | None:
        """The open segment, padded with zeros, at the stream's end; None where there is none worth sending."""
        trigger, samples, start = self._trigger, self._held, self._position - self._held.size
        self._trigger, self._held = None, np.empty(0, dtype=np.int16)
        if trigger is None or (trigger == "continued" and samples.size < MIN_TAIL_SAMPLES):
            return None
        return self._segment(samples, start, trigger)

    def _cut_full(self) -> Segment | None:
        if self._trigger is None or self._held.size < SEGMENT_SAMPLES:
            return None
        segment = self._segment(self._held[:SEGMENT_SAMPLES], self._position - self._held.size, self._trigger)
        self._held = self._held[SEGMENT_SAMPLES:]
        goes_on = self._position - self._active_until <= self._hang_over
        self._trigger = "continued" if goes_on else None
        return segment

    def _segment(self, samples: NDArray[np.int16], start: int, trigger: Trigger) -> Segment:
        pcm = fit_segment(samples)
        self._ended = self._time(start + samples.size)
        return Segment(
            segment_id=str(uuid.uuid4()),
            device_id=self._device_id,
            sequence=next(self._sequences),
            start=self._time(start),
            trigger=trigger,
            level_dbfs=level_dbfs(pcm),
            pcm=pcm,
        )

    def _time(self, position: int) -> datetime:
        return self._started + timedelta(microseconds=position * 1_000_000 // SAMPLE_RATE_HZ)
