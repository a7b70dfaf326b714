from __future__ import annotations

import pytest

from producers.sampleclock import SampleClock

RATE_HZ = 16_000
BLOCK = 480
BLOCK_S = BLOCK / RATE_HZ


def run(clock: SampleClock, start_s: float, blocks: int) -> int:
    return sum(clock.missing(start_s + number * BLOCK_S, BLOCK) for number in range(blocks))


def test_a_steady_stream_misses_nothing() -> None:
    assert run(SampleClock(RATE_HZ), 100.0, 1_000) == 0


def test_a_hiccup_that_catches_up_is_no_loss() -> None:
    clock = SampleClock(RATE_HZ)
    assert run(clock, 0.0, 100) == 0
    assert sum(clock.missing(4.5, BLOCK) for _ in range(50)) == 0  # held up for 1.5 s, then all at once
    assert run(clock, 4.53, 500) == 0


def test_a_gap_that_stays_is_counted_once() -> None:
    clock = SampleClock(RATE_HZ)
    run(clock, 0.0, 100)
    gap_s = 1.0
    assert abs(run(clock, 100 * BLOCK_S + gap_s, 500) - gap_s * RATE_HZ) <= BLOCK


@pytest.mark.parametrize("drift", [200e-6, -200e-6])
def test_a_sound_card_whose_clock_is_off_loses_nothing_in_half_a_day(drift: float) -> None:
    clock = SampleClock(RATE_HZ)
    step_s = 1.0  # of the clock that is right; nine seconds at the end
    assert sum(clock.missing(n * step_s, round(RATE_HZ * step_s * (1 - drift))) for n in range(12 * 3600)) == 0


def test_a_gap_is_found_on_a_slow_sound_card_too() -> None:
    clock = SampleClock(RATE_HZ)
    samples = round(RATE_HZ * (1 - 200e-6))
    lost = sum(clock.missing(n + (2.0 if n > 3600 else 0.0), samples) for n in range(2 * 3600))
    assert lost == pytest.approx(2.0 * RATE_HZ, abs=0.02 * RATE_HZ)
