from __future__ import annotations

import numpy as np
import pytest

from training.tuning import _parts


def test_recordings_that_calibrate_are_not_learnt_from_and_every_class_is_learnt() -> None:
    classes = np.repeat([0, 1, 2], [40, 20, 3])
    sources = [f"{number // 2}" for number in range(60)] + ["only"] * 3
    learnt, kept_out = _parts(classes, sources, seed=0)
    assert sorted([*learnt, *kept_out]) == list(range(63))
    assert not {sources[number] for number in learnt} & {sources[number] for number in kept_out}
    assert set(classes[learnt]) == {0, 1, 2}
    assert 4 <= len(kept_out) <= 12  # about an eighth, however few recordings a class has


def test_an_eighth_of_many_recordings_calibrates() -> None:
    classes = np.tile([0, 1], 80)
    learnt, kept_out = _parts(classes, [str(number) for number in range(160)], seed=0)
    assert (len(learnt), len(kept_out)) == (140, 20)
    assert np.bincount(classes[kept_out]).tolist() == [10, 10]


def test_with_two_recordings_nothing_is_kept_out_that_is_needed() -> None:
    learnt, kept_out = _parts(np.array([0, 0, 1, 1]), ["a", "a", "b", "b"], seed=0)
    assert (learnt.tolist(), kept_out.tolist()) == ([0, 1, 2, 3], [])


def test_two_recordings_with_a_clip_each_are_both_learnt_from() -> None:
    learnt, kept_out = _parts(np.array([0, 1]), ["a", "b"], seed=0)
    assert (learnt.tolist(), kept_out.tolist()) == ([0, 1], [])


@pytest.mark.parametrize("seed", range(8))
def test_a_recording_of_two_classes_is_on_one_side(seed: int) -> None:
    classes, sources = np.array([0, 0, 1, 2, 0, 0, 1, 1]), list("abccdefg")
    learnt, kept_out = _parts(classes, sources, seed)
    assert not {sources[number] for number in learnt} & {sources[number] for number in kept_out}
    assert set(classes[learnt]) == {0, 1, 2}
