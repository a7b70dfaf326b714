"""The agent: hears one stream after another, and hands the segments that it cuts to a publisher.

frames → gate → segmenter → publisher. Each stream (a microphone, or one recording) has a gate and a segmenter of its
own; the device's sequence numbers and its clock go on from one to the next. A live stream's time is kept to the host's
clock whenever nothing is heard; one that is not live waits where the publisher's queue is full, and loses nothing.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from earshot.audio import SAMPLE_RATE_HZ
from producers import metrics
from producers.gate import Gate
from producers.segmenter import Segmenter
from producers.wallclock import WallClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from earshot.segments import Segment
    from producers.publisher import Publisher
    from producers.settings import AgentSettings
    from producers.sources import Source


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of one stream."""

    frames: int
    """Frames of 30 ms that were heard."""
    segments: int
    """Segments cut."""
    sent: int
    """Segments that the broker has acknowledged."""
    dropped: int
    """Segments that are lost."""


class Agent:
    """One device. `on_segment` is called with each segment, before it is handed to the publisher."""

    def __init__(
        self,
        settings: AgentSettings,
        publisher: Publisher,
        on_segment: Callable[[Segment], None] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`now` is the host's clock."""
        self._now = now
        self._settings = settings
        self._publisher = publisher
        self._on_segment = on_segment
        self._sequences = itertools.count()
        self._heard_until = datetime.min.replace(tzinfo=UTC)
        self._source: Source | None = None
        self._stopped = False
        self._cut = 0

    def stop(self) -> None:
        """End the stream that is heard and hear no other; safe from any thread and from a signal handler."""
        self._stopped = True
        if (source := self._source) is not None:
            source.stop()

    def run(self, source: Source) -> Summary:
        """Hear `source` until it ends or `stop()` is called, and send what was cut.

        What the source raises is raised here, after what had been cut was sent.
        """
        self._source = source
        settings, publisher = self._settings, self._publisher
        gate = Gate(
            settings.gate,
            vad_mode=settings.vad_mode,
            margin_db=settings.energy_margin_db,
            floor_dbfs=settings.noise_floor_dbfs,
            least_dbfs=settings.least_level_dbfs,
        )
        segmenter = Segmenter(
            settings.device_id,
            # A recording replayed faster than real time ends, by its own clock, later than it did by ours.
            max(self._now(), self._heard_until),
            self._sequences,
            pre_roll_s=settings.pre_roll_s,
            hang_over_s=settings.hang_over_s,
        )
        clock = WallClock() if source.live else None
        frames = lost = 0
        cut, sent, dropped = self._cut, publisher.sent, publisher.dropped
        try:
            if not self._stopped:
                for frame in source:
                    if not source.live:
                        publisher.wait_for_room(lambda: self._stopped)
                    if source.lost_samples > lost:
                        self._send(segmenter.skip(source.lost_samples - lost))
                        metrics.LOST.inc((source.lost_samples - lost) / SAMPLE_RATE_HZ)
                        lost = source.lost_samples
                    activity = gate.update(frame)
                    frames += 1
                    metrics.FRAMES.inc()
                    metrics.LEVEL.set(activity.level_dbfs)
                    self._send(segmenter.push(frame, activity))
                    if clock is not None and (error := clock.correction(segmenter.heard_until, self._now())):
                        segmenter.correct(error)
        finally:
            self._source = None
            self._heard_until = segmenter.heard_until
            self._send(segmenter.flush())
            publisher.flush()
        return Summary(frames, self._cut - cut, publisher.sent - sent, publisher.dropped - dropped)

    def _send(self, segment: Segment | None) -> None:
        if segment is None:
            return
        self._cut += 1
        metrics.SEGMENTS_CUT.labels(segment.trigger).inc()
        if self._on_segment is not None:
            self._on_segment(segment)
        self._publisher.send(segment)
