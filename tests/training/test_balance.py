from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from earshot.labels import UNKNOWN
from training.data.clips import Clip
from training.heads.balance import balanced, class_weights, clip_weights, recording_weights


def test_all_classes_weigh_the_same_and_all_examples_what_they_weighed() -> None:
    classes = np.repeat([0, 1, 3], [8, 3, 1])
    weights = class_weights(np.ones(12), classes, 5)
    np.testing.assert_allclose(weights[[0, 1, 3]] * [8, 3, 1], 4)
    assert weights[[2, 4]].tolist() == [0, 0]  # no example is of these
    np.testing.assert_allclose(balanced(np.ones(12), classes, 5).sum(), 12)
    np.testing.assert_allclose(balanced(np.array([0.5, 0.5, 3]), np.array([0, 0, 1]), 2), [1, 1, 2])


def test_classes_of_as_many_examples_weigh_as_if_there_were_no_balance() -> None:
    assert balanced(np.ones(21), np.tile([0, 1, 2], 7), 3).tolist() == [1] * 21


def clip(label: str, name: str) -> Clip:
    return Clip(Path(name), label, 1, name)


def test_clips_weigh_the_same_however_many_windows_they_have() -> None:
    long, short, noise = clip("dog", "long"), clip("cat", "short"), clip(UNKNOWN, "noise")
    rows = [long] * 9 + [short] + [noise] * 5
    weights = clip_weights(rows)
    each: Counter[Clip] = Counter()
    for one, weight in zip(rows, weights.tolist(), strict=True):
        each[one] += weight
    assert each[long] == pytest.approx(5.0)  # all clips of classes together weigh as many as their windows
    assert each[short] == each[noise] == 5.0


def test_recordings_weigh_the_same_within_their_class_however_many_clips_they_have() -> None:
    cut = [Clip(Path(f"{number}"), "dog", 1, "many clips") for number in range(4)]
    once, cat, noise = clip("dog", "one clip"), clip("cat", "cat"), clip(UNKNOWN, "noise")
    rows = [*cut, cut[0], once, cat, cat, noise, noise]  # the first, and the cat, have two windows
    by_clips, by_recordings = clip_weights(rows), recording_weights(rows)
    dogs = np.array([one.label == "dog" for one in rows])
    of_many = np.array([one.source == "many clips" for one in rows])
    assert by_recordings[of_many].sum() == pytest.approx(by_recordings[dogs].sum() / 2)
    assert by_recordings[dogs].sum() == pytest.approx(by_clips[dogs].sum())
    np.testing.assert_allclose(by_recordings[~dogs], by_clips[~dogs])
    np.testing.assert_allclose(
        by_recordings[:5] / by_clips[:5], by_recordings[0] / by_clips[0]
    )  # its clips count alike
    assert recording_weights([]).tolist() == []


def test_windows_of_background_alone_count_as_one_each() -> None:
    assert clip_weights([clip(UNKNOWN, "noise")] * 3).tolist() == [1, 1, 1]
    assert clip_weights([]).tolist() == []
