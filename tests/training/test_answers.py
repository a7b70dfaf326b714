from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from training.data.clips import Clip
from training.evaluation.answers import UNKNOWN_TRUTH, Answers

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMES = ("a", "b")


def heard(label: str, name: str, *windows: tuple[float, float]) -> tuple[Clip, NDArray[np.float32]]:
    """A clip and the scores of its windows."""
    return Clip(Path(f"{name}.wav"), label, 1, name), np.array(windows, np.float32)


def scored(label: str, fold: int, *scores: float, thresholds: tuple[float, ...] = (0.0,)) -> Answers:
    values = np.array([scores], np.float32)
    clip = Clip(Path(f"{fold}.wav"), label, fold, str(fold))
    return Answers(NAMES, (clip,), values, values, np.array(thresholds, np.float32))


def test_answers_are_of_the_first_window_and_of_the_mean_of_all() -> None:
    scores = dict(
        [
            heard("a", "both", (0.9, 0.1)),
            heard("a", "only-later", (0.4, 0.6), (1, 0), (1, 0)),
            heard("b", "only-first", (0.4, 0.6), (1, 0), (1, 0)),
        ]
    )
    answers = Answers.of(scores, NAMES)
    assert [clip.path.stem for clip in answers.clips] == ["both", "only-later", "only-first"]
    assert answers.segment.dtype == answers.whole.dtype == np.float32
    assert answers.answered.tolist() == [0, 1, 1]
    assert answers.right.tolist() == [True, False, True]
    assert answers.whole.argmax(axis=1).tolist() == [0, 0, 0]
    np.testing.assert_allclose(answers.whole[1], [0.8, 0.2])


def test_no_clip_at_all_is_no_answer() -> None:
    answers = Answers.of({}, NAMES)
    assert len(answers) == 0
    assert answers.right.tolist() == answers.unknown.tolist() == []


def test_a_truth_that_the_model_does_not_know_is_never_right() -> None:
    answers = scored("siren", 1, 0.9, 0.1)
    assert answers.truth.tolist() == [UNKNOWN_TRUTH]
    assert not answers.right.any()


def test_a_label_is_unknown_below_the_threshold_of_its_own_class_and_not_at_it() -> None:
    assert scored("a", 1, 0.25, 0.75, thresholds=(0.9, 0.75)).unknown.tolist() == [False]
    assert scored("a", 1, 0.25, 0.75, thresholds=(0.0, 0.8)).unknown.tolist() == [True]
    assert scored("a", 1, 0.25, 0.75, thresholds=(0.8,)).unknown.tolist() == [True]
    assert scored("a", 1, 0.0, 0.0).unknown.tolist() == [False]


@pytest.mark.parametrize("second", [(0.9, 0.0), (0.5, 0.5)])
def test_folds_are_pooled_with_the_thresholds_of_each_and_taken_apart_again(second: tuple[float, ...]) -> None:
    folds = [scored("a", 1, 0.7, 0.3, thresholds=(0.5, 0.5)), scored("b", 2, 0.8, 0.2, thresholds=second)]
    pooled = Answers.pooled(folds)
    assert [clip.fold for clip in pooled.clips] == [1, 2]
    assert pooled.unknown.tolist() == [False, second[0] == 0.9]
    for fold, own in zip((1, 2), folds, strict=True):
        again = pooled.of_fold(fold)
        assert again.clips == own.clips
        np.testing.assert_array_equal(again.segment, own.segment)
        assert again.unknown.tolist() == own.unknown.tolist()


def test_models_of_different_classes_are_not_pooled() -> None:
    values = np.ones((0, 1), np.float32)
    with pytest.raises(ValueError, match="different classes"):
        Answers.pooled([scored("a", 1, 0.7, 0.3), Answers(("a",), (), values, values)])


def test_scores_that_do_not_fit_the_clips_are_refused() -> None:
    clip = Clip(Path("x.wav"), "a", 1, "x")
    with pytest.raises(ValueError, match=r"\(1, 2\) clips and classes"):
        Answers(NAMES, (clip,), np.ones((2, 2), np.float32), np.ones((1, 2), np.float32))
