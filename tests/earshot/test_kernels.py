from __future__ import annotations

import numpy as np

from earshot.kernels import LANES, power_by_bin, windowed_frames


def test_frames_begin_a_hop_apart_and_are_windowed() -> None:
    sound = np.arange(20, dtype=np.float32)
    frames = np.empty((3, 4), np.float32)
    windowed_frames(sound, 5, np.array([0, 1, 2, 0.5], np.float32), frames)
    assert frames.tolist() == [[0, 1, 4, 1.5], [0, 6, 14, 4], [0, 11, 24, 6.5]]


def test_power_is_the_square_of_the_magnitude_with_a_row_for_each_bin() -> None:
    rng = np.random.default_rng(0)
    spectra = (rng.normal(size=(3 * LANES, 5)) + 1j * rng.normal(size=(3 * LANES, 5))).astype(np.complex64)
    np.testing.assert_allclose(power_by_bin(spectra.view(np.float32)), (np.abs(spectra) ** 2).T, rtol=1e-5)
