from __future__ import annotations

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
