"""Compares the samples that a stream gave with the time that has passed, to find sound that was lost silently."""

from __future__ import annotations

BEHIND_S = 0.5
"""A stream that stays so far behind the clock has lost sound: PortAudio says that it overflowed, not by how much."""
WINDOW_S = 2.0
"""How long it must stay behind: what is only late, as after a hiccup of this process, catches up sooner."""


class SampleClock:
    """One stream's samples against a monotonic clock."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._start_s: float | None = None
        self._samples = 0
        self._behind_since_s: float | None = None
        self._least_behind = 0  # samples, since then

    def missing(self, now_s: float, samples: int) -> int:
        """Samples that were lost, found out when `samples` more have come at `now_s` seconds; mostly 0."""
        self._samples += samples
        if self._start_s is None:
            self._start_s = now_s - samples / self._rate_hz
        behind = round((now_s - self._start_s) * self._rate_hz) - self._samples
        if behind < BEHIND_S * self._rate_hz:
            self._behind_since_s = None
            return 0
        if self._behind_since_s is None:
            self._behind_since_s, self._least_behind = now_s, behind
        self._least_behind = min(self._least_behind, behind)
        if now_s - self._behind_since_s < WINDOW_S:
            return 0
        self._behind_since_s = None
        self._samples += self._least_behind
        return self._least_behind
