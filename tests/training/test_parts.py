from __future__ import annotations

import numpy as np
import pytest

from training.heads.parts import parts_of


def test_each_recording_is_of_one_part_and_without_any_part_every_class_is_learnt() -> None:
    classes = np.repeat([0, 1, 2], [40, 20, 3])
    sources = [f"{number // 2}" for number in range(60)] + ["only"] * 3
    parts = parts_of(classes, sources, 4, seed=0)
    assert len(parts) == 4
    for learnt, kept_out in parts:
        assert sorted([*learnt, *kept_out]) == list(range(63))
        assert not {sources[number] for number in learnt} & {sources[number] for number in kept_out}
        assert set(classes[learnt]) == {0, 1, 2}
        assert 10 <= len(kept_out) <= 20
    assert sorted(number for _, kept_out in parts for number in kept_out) == list(range(60))


def test_parts_have_as_many_recordings_of_each_class() -> None:
    classes = np.tile([0, 1], 80)
    parts = parts_of(classes, [str(number) for number in range(160)], 4, seed=0)
    assert [np.bincount(classes[kept_out]).tolist() for _, kept_out in parts] == [[20, 20]] * 4


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("classes", "sources"), [([0, 0, 1, 1], "aabb"), ([0, 1], "ab"), ([0, 1, 0], "aab"), ([0, 1], "aa")]
)
def test_there_are_no_parts_where_too_little_would_be_left_to_learn_from(
    classes: list[int], sources: str, seed: int
) -> None:
    assert parts_of(np.array(classes), list(sources), 4, seed) == []


@pytest.mark.parametrize("seed", range(8))
def test_a_recording_of_two_classes_is_on_one_side(seed: int) -> None:
    classes, sources = np.array([0, 0, 1, 2, 0, 0, 1, 1]), list("abccdefg")
    for learnt, kept_out in parts_of(classes, sources, 4, seed):
        assert not {sources[number] for number in learnt} & {sources[number] for number in kept_out}
        assert set(classes[learnt]) == {0, 1, 2}
