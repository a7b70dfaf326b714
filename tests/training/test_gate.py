from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluation.gate import TooFewRecordings, compare
from training.evaluation.resampling import LEAST_RECORDINGS

RIGHT, WRONG = True, False


def hits(*values: bool) -> np.ndarray:
    return np.array(values, dtype=bool)


def of_own_recordings(count: int) -> list[str]:
    return [f"recording {number}" for number in range(count)]


def test_a_model_is_not_better_than_itself() -> None:
    answers = np.random.default_rng(0).random(300) < 0.7
    one = compare(answers, answers, of_own_recordings(300))
    assert (one.difference, one.lower, one.better) == (0, 0, False)


def test_a_model_that_names_ten_points_more_is_better_and_the_other_way_round_it_is_not() -> None:
    rng = np.random.default_rng(0)
    current = rng.random(500) < 0.6
    candidate = current | (rng.random(500) < 0.25)
    one = compare(candidate, current, of_own_recordings(500))
    assert one.candidate == candidate.mean()
    assert one.current == current.mean()
    assert one.difference == pytest.approx(0.1, abs=0.02)
    assert 0 < one.lower < one.difference
    assert one.better
    assert not compare(current, candidate, of_own_recordings(500)).better


def test_a_lead_that_chance_explains_is_not_enough() -> None:
    """By 4 of a hundred clips, of which 96 are right of one of the two alone."""
    candidate = hits(*[RIGHT] * 50, *[WRONG] * 50)
    current = hits(*[RIGHT] * 2, *[WRONG] * 50, *[RIGHT] * 44, *[WRONG] * 4)
    one = compare(candidate, current, of_own_recordings(100))
    assert one.difference == pytest.approx(0.04)
    assert not one.better


def test_the_interval_is_that_of_the_sign_test_where_every_clip_is_a_recording_of_its_own() -> None:
    """The mean of n independent differences, of known spread: its 5th percentile is 1.645 standard errors lower."""
    candidate, current = hits(*[RIGHT] * 60, *[WRONG] * 340), hits(*[WRONG] * 380, *[RIGHT] * 20)
    differences = candidate.astype(int) - current.astype(int)
    expected = differences.mean() - 1.645 * differences.std() / np.sqrt(400)
    assert compare(candidate, current, of_own_recordings(400)).lower == pytest.approx(expected, abs=0.003)


def test_many_clips_of_one_recording_are_one_witness() -> None:
    """Twelve clips won, of a hundred: beyond doubt if each is of its own, but not if they are one recording cut up."""
    candidate, current = hits(*[RIGHT] * 12, *[WRONG] * 88), hits(*[WRONG] * 100)
    assert compare(candidate, current, of_own_recordings(100)).better
    cut_up = ["the dog next door"] * 12 + of_own_recordings(88)
    one = compare(candidate, current, cut_up)
    assert one.recordings == 89
    assert one.difference == pytest.approx(0.12)
    assert not one.better


def test_too_few_recordings_prove_nothing_however_many_clips_they_have() -> None:
    few = [f"recording {number % (LEAST_RECORDINGS - 1)}" for number in range(200)]
    with pytest.raises(TooFewRecordings, match=f"200 clips of {LEAST_RECORDINGS - 1} recordings are too few"):
        compare(hits(*[RIGHT] * 200), hits(*[WRONG] * 200), few)


def test_the_same_seed_gives_the_same_interval() -> None:
    rng = np.random.default_rng(1)
    candidate, current = rng.random(80) < 0.7, rng.random(80) < 0.6
    sources = [f"recording {number % 23}" for number in range(80)]
    assert compare(candidate, current, sources, seed=5) == compare(candidate, current, sources, seed=5)
    # Every resample may differ with another seed, and the end of the interval hardly does.
    other = compare(candidate, current, sources, seed=6)
    assert other.lower == pytest.approx(compare(candidate, current, sources, seed=5).lower, abs=0.02)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.booleans(), st.integers(0, 14)), min_size=LEAST_RECORDINGS, max_size=60
    ).filter(lambda clips: len({source for _, _, source in clips}) >= LEAST_RECORDINGS)
)
def test_whatever_was_answered(clips: list[tuple[bool, bool, int]]) -> None:
    candidate, current = hits(*(ours for ours, _, _ in clips)), hits(*(theirs for _, theirs, _ in clips))
    sources = [str(source) for _, _, source in clips]
    one = compare(candidate, current, sources)
    assert one.difference == pytest.approx(candidate.mean() - current.mean())
    assert -1 <= one.lower <= 1
    assert one.clips == len(clips)
    assert one.recordings == len(set(sources))
    # Never better both ways, and never better without naming more.
    assert not (one.better and compare(current, candidate, sources).better)
    assert not one.better or one.difference > 0
    # The order of the clips does not matter to the figures.
    backwards = compare(candidate[::-1], current[::-1], sources[::-1])
    assert backwards.difference == pytest.approx(one.difference)
