from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from earshot.labels import UNKNOWN
from training.data.clips import Clip
from training.heads.parts import calibrating_rows, parts_of, too_sure


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


def clips_of_two_classes(count: int) -> list[Clip]:
    return [Clip(Path(f"{number}.wav"), "ab"[number % 2], 1, str(number)) for number in range(count)]


def test_a_network_is_asked_about_recordings_that_it_has_not_heard_if_they_are_enough() -> None:
    clips = clips_of_two_classes(30)
    noise = Clip(Path("noise.wav"), UNKNOWN, 1, "noise")
    rows, heard = [*clips, noise, *clips], {clip.source for clip in clips[:20]}  # two windows of each
    masks = calibrating_rows(rows, [heard])
    assert masks
    assert masks[0].sum() == 21
    assert not any(clip.source in heard for clip, asked in zip(rows, masks[0], strict=True) if asked)
    assert calibrating_rows(rows, [heard | {clips[20].source}]) is None
    with_noise = calibrating_rows(rows, [heard | {"noise"}])
    assert with_noise
    assert with_noise[0].sum() == 21  # for the thresholds
    everything = calibrating_rows(clips[:4], [set()])
    assert everything
    assert everything[0].all()


def test_a_network_that_has_heard_all_of_a_class_is_not_asked_about_the_others_alone() -> None:
    clips = clips_of_two_classes(40)
    assert calibrating_rows(clips, [{clip.source for clip in clips if clip.label == "a"}]) is None
    assert calibrating_rows(clips, [{clip.source for clip in clips[2:] if clip.label == "a"}])


def test_each_network_is_asked_about_what_it_has_not_heard_itself() -> None:
    clips = clips_of_two_classes(20)
    sources = [clip.source for clip in clips]
    masks = calibrating_rows(clips, [set(sources[:5]), set(sources[3:])])
    assert masks
    assert [int(mask.sum()) for mask in masks] == [15, 3]
    assert calibrating_rows(clips, [set(sources), set(sources[9:])]) is None


def test_scores_that_are_calibrated_by_heard_clips_are_said_to_be_too_sure() -> None:
    clips = clips_of_two_classes(6)
    (note,) = too_sure(clips, {"1", "2", "elsewhere"})
    assert "by recordings that the weights have heard" in note
    assert too_sure(clips, {"elsewhere"}) == []
    assert too_sure([Clip(Path("noise.wav"), UNKNOWN, 1, "noise")], {"noise"}) == []
