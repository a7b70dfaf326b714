from __future__ import annotations

from datetime import UTC, datetime, timedelta

from producers.frames import FRAME_S
from producers.wallclock import TOLERANCE, WINDOW_FRAMES, WallClock

START = datetime(2026, 11, 23, tzinfo=UTC)
STEP = timedelta(seconds=FRAME_S)
HOUR_FRAMES = round(3600 / FRAME_S)


def run(clock: WallClock, now: datetime, heard_until: datetime, frames: int, drift: float = 0.0) -> timedelta:
    """The stream's error after `frames`, where each correction is made."""
    for _ in range(frames):
        now += STEP * (1 + drift)
        heard_until += STEP
        heard_until += clock.correction(heard_until, now)
    return now - heard_until


def test_the_first_frame_puts_the_stream_on_the_clock() -> None:
    opened_late = timedelta(seconds=0.4)
    assert run(WallClock(), START + opened_late, START, 1) == timedelta(0)


def test_a_sound_card_that_drifts_is_followed() -> None:
    for drift in (200e-6, -200e-6):
        assert abs(run(WallClock(), START, START, 12 * HOUR_FRAMES, drift)) < 2 * TOLERANCE


def test_a_clock_that_is_set_is_followed_either_way_within_two_windows() -> None:
    for step in (timedelta(days=20), -timedelta(hours=1)):
        clock = WallClock()
        run(clock, START, START, 10)
        assert run(clock, START + 10 * STEP + step, START + 10 * STEP, 2 * WINDOW_FRAMES) == timedelta(0)


def test_frames_that_were_held_up_and_catch_up_change_nothing() -> None:
    clock = WallClock()
    run(clock, START, START, 10)
    late = timedelta(seconds=5)
    for number in range(2 * WINDOW_FRAMES):
        heard_until = START + (10 + number) * STEP
        now = heard_until + max(late - number * STEP, timedelta(0))
        assert clock.correction(heard_until, now) == timedelta(0)
