"""From what a sound card or a file gives to Earshot's one format: mono, 16 kHz, signed 16 bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from earshot.audio import SAMPLE_RATE_HZ, pcm16

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Resampler:
    """Mixes a stream of blocks down to mono and resamples it to 16 kHz, without seams between the blocks.

    A stream that is mono and 16 kHz already passes through bit for bit.
    """

    def __init__(self, rate_hz: int) -> None:
        """Raises ValueError where a rate cannot be resampled from."""
        import soxr  # agents that replay or record pay for it, importers of this module do not

        if rate_hz < 1:
            raise ValueError(f"a sample rate of {rate_hz} Hz")
        self._stream = None
        if rate_hz != SAMPLE_RATE_HZ:
            self._stream = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, num_channels=1, dtype="float32")

    def push(self, block: NDArray[np.float32], *, last: bool = False) -> NDArray[np.int16]:
        """Samples (int16 [m]) that `block` (float32 [n, channels], -1 to 1) brings; `last` empties the filter.

        NaN becomes silence and what lies outside -1 to 1 is clipped, before a filter can smear either.
        """
        sound = np.clip(np.nan_to_num(block, nan=0.0), -1.0, 1.0)
        mono = sound[:, 0] if sound.shape[1] == 1 else sound.mean(axis=1, dtype=np.float32)
        if self._stream is not None:
            mono = self._stream.resample_chunk(np.ascontiguousarray(mono), last=last)
        return pcm16(mono)
