"""The spectrogram's inner loops that numpy would run as several passes over memory; numba compiles them when called.

They hold no interpreter lock, so threads compute spectrograms side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LANES = 8
"""Frames whose power is computed side by side: as many float32 as a vector register of AVX2 holds."""


@numba.njit(nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def windowed_frames(
    sound: NDArray[np.float32], hop: int, window: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """Write frame after frame of `sound` (float32 [samples]), times `window` ([n]), to `out` (float32 [frames, n])."""
    for frame in range(out.shape[0]):
        heard = sound[frame * hop : frame * hop + window.size]
        row = out[frame]
        for sample in range(window.size):
            row[sample] = heard[sample] * window[sample]


@numba.njit(nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def power_by_bin(spectra: NDArray[np.float32]) -> NDArray[np.float32]:
    """The power of `spectra`, turned around: float32 [FFT bins, frames].

    `spectra` has the real and the imaginary part of each bin in turn: float32 [frames, 2 * FFT bins]. Frames are a
    multiple of `LANES`: the innermost loop is of fixed length, so the compiler makes it a few vector instructions.
    """
    power = np.empty((spectra.shape[1] // 2, spectra.shape[0]), np.float32)
    for start in range(0, spectra.shape[0], LANES):
        some = spectra[start : start + LANES]
        lanes = power[:, start : start + LANES]
        for fft_bin in range(power.shape[0]):
            for lane in range(LANES):
                lanes[fft_bin, lane] = some[lane, 2 * fft_bin] ** 2 + some[lane, 2 * fft_bin + 1] ** 2
    return power
