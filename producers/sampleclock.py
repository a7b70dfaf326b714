"""Compares the samples that a stream gave with the time that has passed, to find sound that was lost silently."""

from __future__ import annotations

BEHIND_S = 0.5
"""A stream that falls so far behind the clock has lost sound: PortAudio says that it overflowed, not by how much."""
WINDOW_S = 2.0
"""How long it must stay behind: what is only late, as after a hiccup of this process, catches up sooner."""
MOST_DRIFT = 1e-3
"""Seconds a second by which a sound card's clock may be slow; quartz is right to within a tenth of that."""


class SampleClock:
    """One stream's samples against a monotonic clock, from which the sound card's own drifts away slowly."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._start_s: float | None = None
        self._now_s = 0.0
        self._samples = 0
        self._drifted_s = 0.0  # how far behind the stream is where nothing is late or lost
        self._late_since_s: float | None = None
        self._least_late_s = 0.0  # since then

    def missing(self, now_s: float, samples: int) -> int:
        """Samples that were lost, found out when `samples` more have come at `now_s` seconds; mostly 0."""
        self._samples += samples
        if self._start_s is None:
            self._start_s = now_s - samples / self._rate_hz
            self._now_s = now_s
        behind_s = now_s - self._start_s - self._samples / self._rate_hz
        self._drifted_s = min(behind_s, self._drifted_s + MOST_DRIFT * (now_s - self._now_s))
        self._now_s = now_s
        late_s = behind_s - self._drifted_s
        if late_s < BEHIND_S:
            self._late_since_s = None
            return 0
        if self._late_since_s is None:
            self._late_since_s, self._least_late_s = now_s, late_s
        self._least_late_s = min(self._least_late_s, late_s)
        if now_s - self._late_since_s < WINDOW_S:
            return 0
        self._late_since_s = None
        self._drifted_s += self._least_late_s
        return round(self._least_late_s * self._rate_hz)
