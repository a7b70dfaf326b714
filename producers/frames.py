"""Frames: the 30 ms steps in which an agent hears, and cutting any stream of samples into them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from earshot.audio import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

FRAME_SAMPLES = 480
"""Samples of a frame at 16 kHz; 30 ms is the longest step that the voice activity detector takes."""
FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ


class Framer:
    """Cuts blocks of samples of any length into frames, and keeps what is left over for the next block."""

    def __init__(self) -> None:
        self._rest = np.empty(0, dtype=np.int16)

    def push(self, samples: NDArray[np.int16]) -> Iterator[NDArray[np.int16]]:
        """Frames (int16 [480]) that `samples` (int16 [n]) completes."""
        joined = np.concatenate([self._rest, samples])
        whole = joined.size - joined.size % FRAME_SAMPLES
        self._rest = joined[whole:]
        yield from joined[:whole].reshape(-1, FRAME_SAMPLES)

    def flush(self) -> Iterator[NDArray[np.int16]]:
        """The last frame, padded with zeros, where samples are left over."""
        if self._rest.size:
            yield np.pad(self._rest, (0, FRAME_SAMPLES - self._rest.size))
        self._rest = np.empty(0, dtype=np.int16)
