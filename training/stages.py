"""What each stage of a job took: its time, and the most memory that the process had had when it was over."""

from __future__ import annotations

import resource
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024


class Stages:
    """A job's stages, in the order in which they ended."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peak_memory_mb: dict[str, int] = {}
        """Of the whole process so far, in 10^6 bytes; it never falls."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what is within, as the stage `name`."""
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 1)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_BYTES
        self.peak_memory_mb[name] = round(peak / 1e6)
