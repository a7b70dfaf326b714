from __future__ import annotations

import numpy as np
import pytest

from earshot.audio import FULL_SCALE, level_dbfs
from producers.resampler import Resampler
from tests.producers.sounds import noise


def stream(rate_hz: int, blocks: list[np.ndarray]) -> np.ndarray:
    resampler = Resampler(rate_hz)
    pieces = [resampler.push(block) for block in blocks]
    pieces.append(resampler.push(np.empty((0, 1), dtype=np.float32), last=True))
    return np.concatenate(pieces)


def sine(rate_hz: int, seconds: float, hz: float = 440.0) -> np.ndarray:
    time_s = np.arange(round(rate_hz * seconds)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * hz * time_s)).astype(np.float32)[:, None]


def test_mono_at_16_khz_passes_bit_for_bit() -> None:
    pcm = noise(1.0, -20.0)
    assert np.array_equal(stream(16_000, [pcm[:, None].astype(np.float32) / np.float32(FULL_SCALE)]), pcm)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 44_100, 48_000, 192_000])
def test_a_tone_at_any_rate_keeps_its_length_pitch_and_level(rate_hz: int) -> None:
    heard = stream(rate_hz, [sine(rate_hz, 2.0)])
    assert abs(heard.size - 32_000) <= 2
    assert level_dbfs(heard) == pytest.approx(-9.03, abs=0.05)
    expected = sine(16_000, 2.0)[2_000:30_000, 0] * FULL_SCALE
    assert np.abs(heard[2_000:30_000] - expected).max() < 40


def test_blocks_leave_no_seams() -> None:
    sound = sine(44_100, 1.0)
    assert np.array_equal(stream(44_100, [sound]), stream(44_100, np.array_split(sound, 37)))


def test_stereo_is_mixed_down() -> None:
    left, right = np.full((480, 1), 0.5, np.float32), np.full((480, 1), -0.25, np.float32)
    assert np.all(stream(16_000, [np.hstack([left, right])]) == round(0.125 * FULL_SCALE))


def test_nan_and_infinity_spoil_no_sample_but_their_own() -> None:
    sound = np.zeros((48_000, 1), np.float32)
    sound[100], sound[200], sound[300] = np.nan, np.inf, -np.inf
    heard = stream(48_000, [sound])
    assert not heard[2_000:].any()
    assert np.abs(heard.astype(int)).max() <= FULL_SCALE


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="0 Hz"):
        Resampler(0)
