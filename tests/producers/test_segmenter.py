from __future__ import annotations

import itertools
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earshot.audio import SAMPLE_RATE_HZ, SEGMENT_SAMPLES, level_dbfs, windows
from producers.frames import FRAME_SAMPLES
from producers.segmenter import Segmenter
from tests.producers.sounds import ACTIVE, QUIET, frames_of

if TYPE_CHECKING:
    from earshot.segments import Segment

STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def counted(samples: int) -> np.ndarray:
    """Samples that each tell their own position (up to 64 k of them), so that none can be mistaken for another."""
    return (np.arange(samples) - 32_768).astype(np.int16)


def position(segment: Segment) -> int:
    """Where in the stream a segment begins, by its start."""
    return round((segment.start - STARTED) / timedelta(seconds=1) * SAMPLE_RATE_HZ)


def cut(stream: np.ndarray, active: list[bool], segmenter: Segmenter | None = None) -> list[Segment]:
    """Segments of a stream whose frames are active as said, the rest quiet; with the last flushed."""
    segmenter = segmenter or Segmenter("mic", STARTED)
    flags = itertools.chain(active, itertools.repeat(False))
    pushed = [
        segmenter.push(frame, ACTIVE if flag else QUIET) for frame, flag in zip(frames_of(stream), flags, strict=False)
    ]
    return [segment for segment in [*pushed, segmenter.flush()] if segment is not None]


def test_a_short_sound_gives_one_segment_with_half_a_second_before_it() -> None:
    onset = 50
    stream = counted(10 * SAMPLE_RATE_HZ)
    (segment,) = cut(stream, [False] * onset + [True] * 10)
    first = onset * FRAME_SAMPLES - SAMPLE_RATE_HZ // 2
    assert np.array_equal(segment.pcm, stream[first : first + SEGMENT_SAMPLES])
    assert segment.start == STARTED + timedelta(seconds=first / SAMPLE_RATE_HZ)
    assert (segment.trigger, segment.sequence, segment.device_id) == ("vad", 0, "mic")
    assert segment.level_dbfs == pytest.approx(level_dbfs(segment.pcm))
    uuid.UUID(segment.segment_id)


def test_a_sound_at_the_very_start_has_no_pre_roll_and_starts_there() -> None:
    stream = counted(4 * SAMPLE_RATE_HZ)
    (segment,) = cut(stream, [True] * 10)
    assert segment.start == STARTED
    assert np.array_equal(segment.pcm, stream[:SEGMENT_SAMPLES])


def test_silence_gives_no_segment() -> None:
    assert cut(counted(20 * SAMPLE_RATE_HZ), []) == []


def test_a_sound_that_goes_on_gives_back_to_back_segments_without_a_gap() -> None:
    onset = 20  # 0.6 s
    stream = counted(12 * SAMPLE_RATE_HZ)
    segments = cut(stream, [False] * onset + [True] * 300)  # until 9.6 s
    first = onset * FRAME_SAMPLES - SAMPLE_RATE_HZ // 2
    assert [position(segment) for segment in segments] == [first + n * SEGMENT_SAMPLES for n in range(4)]
    assert [segment.trigger for segment in segments] == ["vad", "continued", "continued", "continued"]
    assert [segment.sequence for segment in segments] == [0, 1, 2, 3]
    joined = np.concatenate([segment.pcm for segment in segments])
    heard = stream[first:]
    assert np.array_equal(joined[: heard.size], heard)
    assert not joined[heard.size :].any()


@pytest.mark.parametrize(("quiet_frames", "goes_on"), [(9, True), (11, False)])
def test_a_sound_is_over_after_the_hang_over(quiet_frames: int, goes_on: bool) -> None:
    """300 ms are ten frames; a segment that begins with the stream is full after exactly a hundred."""
    active = [True] * (100 - quiet_frames)
    segments = cut(counted(7 * SAMPLE_RATE_HZ), active)
    assert [segment.trigger for segment in segments] == ["vad", "continued"][: 1 + goes_on]


def test_pre_roll_repeats_no_sample_of_the_segment_before() -> None:
    stream = counted(8 * SAMPLE_RATE_HZ)
    # The first segment is full after frame 100; the next sound begins 150 ms later.
    segments = cut(stream, [True] + [False] * 104 + [True])
    assert [position(segment) for segment in segments] == [0, SEGMENT_SAMPLES]
    assert [segment.trigger for segment in segments] == ["vad", "vad"]


@pytest.mark.parametrize("seconds", [0.0001, 0.4, 0.6, 2.9, 3.0, 3.3, 3.6, 6.2, 8.0])
def test_a_recording_that_is_all_sound_is_cut_as_windows_cuts_it(seconds: float) -> None:
    """`earshot.audio.windows` is what training sees."""
    stream = counted(round(seconds * SAMPLE_RATE_HZ))
    expected = windows(stream)
    segments = cut(stream, [True] * 1000)
    assert len(segments) == len(expected)
    for segment, window in zip(segments, expected, strict=True):
        assert np.array_equal(segment.pcm, window)


def test_a_short_first_segment_is_kept_and_padded_at_the_streams_end() -> None:
    stream = counted(FRAME_SAMPLES)
    (segment,) = cut(stream, [True])
    assert np.array_equal(segment.pcm[:FRAME_SAMPLES], stream)
    assert segment.pcm.size == SEGMENT_SAMPLES
    assert not segment.pcm[FRAME_SAMPLES:].any()


def test_a_flushed_segmenter_has_nothing_more_to_give() -> None:
    segmenter = Segmenter("mic", STARTED)
    segmenter.push(counted(FRAME_SAMPLES), ACTIVE)
    assert segmenter.flush() is not None
    assert segmenter.flush() is None


def test_lost_samples_are_silence_in_an_open_segment_and_time_goes_on() -> None:
    segmenter = Segmenter("mic", STARTED)
    segmenter.push(counted(16_000), ACTIVE)
    assert segmenter.skip(8_000) is None
    segment = segmenter.push(counted(24_000), ACTIVE)
    assert segment is not None
    assert np.array_equal(segment.pcm, np.concatenate([counted(16_000), np.zeros(8_000, np.int16), counted(24_000)]))
    assert segmenter.heard_until == STARTED + timedelta(seconds=3)


def test_a_long_loss_ends_the_segment_and_the_next_one_starts_after_it() -> None:
    segmenter = Segmenter("mic", STARTED)
    segmenter.push(counted(16_000), ACTIVE)
    before = segmenter.skip(60 * SAMPLE_RATE_HZ)
    assert before is not None
    assert np.array_equal(before.pcm[:16_000], counted(16_000))
    assert not before.pcm[16_000:].any()
    after = segmenter.push(counted(SEGMENT_SAMPLES), ACTIVE)
    assert after is not None
    assert after.trigger == "vad"
    assert after.start == STARTED + timedelta(seconds=61)


def test_a_loss_in_silence_opens_nothing_and_is_in_no_pre_roll() -> None:
    segmenter = Segmenter("mic", STARTED)
    segmenter.push(counted(16_000), QUIET)
    assert segmenter.skip(1_600) is None
    segmenter.push(counted(480), ACTIVE)
    segment = segmenter.flush()
    assert segment is not None
    assert segment.start == STARTED + timedelta(seconds=1.1)


def test_streams_of_one_device_share_their_numbering() -> None:
    sequences = itertools.count(7)
    for expected in (7, 8):
        (segment,) = cut(counted(16_000), [True], Segmenter("mic", STARTED, sequences))
        assert segment.sequence == expected


@settings(max_examples=60, deadline=None)
@given(
    active=st.lists(st.booleans(), max_size=500),
    rest=st.integers(0, FRAME_SAMPLES - 1),
    pre_roll_s=st.sampled_from([0.0, 0.031, 0.5, 2.0]),
)
def test_whatever_is_heard_every_segment_is_the_stream_from_its_start_and_none_overlap(
    active: list[bool], rest: int, pre_roll_s: float
) -> None:
    stream = np.random.default_rng(1).integers(-3000, 3000, len(active) * FRAME_SAMPLES + rest).astype(np.int16)
    segments = cut(stream, active, Segmenter("mic", STARTED, pre_roll_s=pre_roll_s))
    covered = np.zeros(stream.size, dtype=int)
    for segment in segments:
        first = position(segment)
        held = stream[first : first + SEGMENT_SAMPLES]
        assert segment.pcm.shape == (SEGMENT_SAMPLES,)
        assert np.array_equal(segment.pcm[: held.size], held)
        assert not segment.pcm[held.size :].any()
        covered[first : first + SEGMENT_SAMPLES] += 1
    assert covered.max(initial=0) <= 1
    dropped_tail = SAMPLE_RATE_HZ // 2
    for number, flag in enumerate(active):
        frame = slice(number * FRAME_SAMPLES, (number + 1) * FRAME_SAMPLES)
        if flag and frame.start < stream.size - dropped_tail:
            assert covered[frame].all(), f"frame {number} is active and in no segment"
    assert len({segment.segment_id for segment in segments}) == len(segments)


def quiet(segmenter: Segmenter, seconds: float) -> None:
    for frame in frames_of(np.zeros(round(seconds * SAMPLE_RATE_HZ), np.int16)):
        assert segmenter.push(frame, QUIET) is None


def test_a_correction_moves_the_time_of_what_follows() -> None:
    segmenter = Segmenter("mic", STARTED)
    quiet(segmenter, 3.0)
    assert segmenter.correct(timedelta(seconds=40))
    assert segmenter.heard_until == STARTED + timedelta(seconds=43)
    (segment,) = cut(counted(SEGMENT_SAMPLES), [True] * 10, segmenter)
    assert segment.start == STARTED + timedelta(seconds=42.5)


def test_a_sound_that_goes_on_keeps_its_time_until_it_is_over() -> None:
    segmenter = Segmenter("mic", STARTED)
    starts = []
    for frame in frames_of(counted(4 * SEGMENT_SAMPLES)):
        if (segment := segmenter.push(frame, ACTIVE)) is not None:
            starts.append(segment.start)
        assert not segmenter.correct(timedelta(seconds=1))
    assert starts == [STARTED + number * timedelta(seconds=3) for number in range(4)]


def test_where_sounds_come_close_upon_one_another_a_drift_is_followed_as_far_as_there_is_room() -> None:
    segmenter = Segmenter("mic", STARTED)
    cut(counted(SEGMENT_SAMPLES), [True] * 10, segmenter)
    quiet(segmenter, 0.72)  # of which 0.5 s may be in the next segment
    assert segmenter.correct(timedelta(seconds=-0.3))
    assert segmenter.heard_until == STARTED + timedelta(seconds=3.5)
    assert not segmenter.correct(timedelta(seconds=-0.1))
    assert segmenter.correct(timedelta(seconds=-1.5))  # a clock that was set
    assert segmenter.correct(timedelta(seconds=-0.1))
    assert segmenter.heard_until == STARTED + timedelta(seconds=1.9)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 120), st.floats(-0.9, 0.9)), max_size=12))
@settings(deadline=None)
def test_however_time_is_corrected_by_drift_no_two_segments_overlap(steps: list[tuple[bool, int, float]]) -> None:
    segmenter = Segmenter("mic", STARTED)
    frame = np.zeros(FRAME_SAMPLES, np.int16)
    segments = []
    for active, frames, correction_s in steps:
        segments += [segmenter.push(frame, ACTIVE if active else QUIET) for _ in range(frames)]
        segmenter.correct(timedelta(seconds=correction_s))
    starts = [segment.start for segment in [*segments, segmenter.flush()] if segment is not None]
    assert all(later - earlier >= timedelta(seconds=3) for earlier, later in itertools.pairwise(starts))
