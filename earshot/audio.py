"""The one audio format that Earshot moves: mono, 16 kHz, signed 16 bit little endian, in segments of three seconds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE_RATE_HZ = 16_000
SEGMENT_S = 3.0
SEGMENT_SAMPLES = int(SEGMENT_S * SAMPLE_RATE_HZ)
SAMPLE_BYTES = 2
SEGMENT_BYTES = SEGMENT_SAMPLES * SAMPLE_BYTES

FULL_SCALE = 32_768.0
SILENCE_DBFS = -120.0
"""Level reported for digital silence, whose logarithm has no value."""


def level_dbfs(samples: NDArray[np.int16]) -> float:
    """Root-mean-square level of `samples` (int16, any shape) in dB relative to full scale.

    A full-scale square wave is 0 dBFS; no samples or digital silence is `SILENCE_DBFS`.
    """
    if samples.size == 0:
        return SILENCE_DBFS
    scaled = samples.astype(np.float32) / FULL_SCALE
    mean_square = float(np.mean(np.square(scaled)))
    return max(10.0 * math.log10(mean_square), SILENCE_DBFS) if mean_square > 0.0 else SILENCE_DBFS


def pcm16(samples: NDArray[np.floating]) -> NDArray[np.int16]:
    """Floating samples in [-1, 1] as int16 of the same shape; what lies outside is clipped, NaN becomes silence."""
    scaled = np.rint(np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0) * FULL_SCALE)
    return np.asarray(np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1), dtype=np.int16)


def fit_segment(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """`samples` (int16 [n]) as exactly one segment: cut after three seconds, or zeros appended up to them."""
    if samples.size >= SEGMENT_SAMPLES:
        return samples[:SEGMENT_SAMPLES]
    return np.pad(samples, (0, SEGMENT_SAMPLES - samples.size))


def windows(samples: NDArray[np.int16], min_tail_s: float = 0.5) -> list[NDArray[np.int16]]:
    """Back-to-back segments of a recording (int16 [n]), as the agent cuts continuous sound.

    The last one is padded with zeros; a tail shorter than `min_tail_s` is left out unless it is all there is.
    """
    starts = range(0, max(samples.size, 1), SEGMENT_SAMPLES)
    least = min_tail_s * SAMPLE_RATE_HZ
    return [fit_segment(samples[start:]) for start in starts if start == 0 or samples.size - start >= least]
