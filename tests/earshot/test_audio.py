from __future__ import annotations

import numpy as np
import pytest

from earshot.audio import SEGMENT_SAMPLES, SILENCE_DBFS, fit_segment, level_dbfs, pcm16, windows


def test_a_full_scale_square_wave_is_0_dbfs_and_half_of_it_6_below() -> None:
    square = np.where(np.arange(480) % 2, 32_767, -32_768).astype(np.int16)
    assert level_dbfs(square) == pytest.approx(0.0, abs=0.01)
    assert level_dbfs(square // 2) == pytest.approx(-6.02, abs=0.01)


def test_nothing_and_digital_silence_have_the_least_level() -> None:
    assert level_dbfs(np.zeros(0, np.int16)) == level_dbfs(np.zeros(480, np.int16)) == SILENCE_DBFS


def test_floats_out_of_range_are_clipped_and_nan_is_silence() -> None:
    assert pcm16(np.array([0.5, 2.0, -2.0, np.nan, np.inf])).tolist() == [16_384, 32_767, -32_768, 0, 32_767]


@pytest.mark.parametrize(
    ("samples", "pieces"),
    [(0, 1), (1, 1), (SEGMENT_SAMPLES, 1), (SEGMENT_SAMPLES + 7_999, 1), (SEGMENT_SAMPLES + 8_000, 2)],
)
def test_a_recording_is_cut_back_to_back_and_a_short_tail_is_left_out(samples: int, pieces: int) -> None:
    pcm = np.arange(samples).astype(np.int16)
    cut = windows(pcm)
    assert [piece.size for piece in cut] == [SEGMENT_SAMPLES] * pieces
    kept = min(samples, pieces * SEGMENT_SAMPLES)
    np.testing.assert_array_equal(np.concatenate(cut)[:kept], pcm[:kept])
    assert not np.concatenate(cut)[kept:].any()


def test_a_segment_is_cut_or_padded_to_three_seconds() -> None:
    assert fit_segment(np.ones(5, np.int16)).sum() == 5
    assert fit_segment(np.ones(60_000, np.int16)).sum() == SEGMENT_SAMPLES
