from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from serving.network import Architecture, Head
from training.data.clips import Clip
from training.evaluation.judging import judged_without, pooled, random_split
from training.recipe import Trained

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

NAMES = ("a", "b")
CLIPS = tuple(Clip(Path(f"{number}.wav"), NAMES[number % 2], 1 + number % 3, str(number)) for number in range(30))


class Rote:
    """A recipe that knows the clips that it was trained on, and says a of all others, a little too surely."""

    architecture = Architecture()
    about = "rote"
    clips = CLIPS
    unreadable: tuple[str, ...] = ()
    heard = frozenset({CLIPS[1].source})
    calibrated_by: tuple[str, ...] = ()

    def train(self, clips: Sequence[Clip], class_names: Sequence[str]) -> Trained:
        self.known = set(clips)
        head = Head(((np.zeros((1, 2), np.float32), np.zeros(2, np.float32)),))
        return Trained((), head, 2.0, (0.0, 0.0), {"clips": len(clips)}, notes=("By rote.",))

    def scores(self, trained: Trained, clips: Iterable[Clip]) -> dict[Clip, NDArray[np.float32]]:
        return {clip: np.array([[0.8, 0.2][:: 1 if self._says_a(clip) else -1]], np.float32) for clip in clips}

    def done(self) -> None:
        pass

    def _says_a(self, clip: Clip) -> bool:
        return clip not in self.known or clip.label == "a"


def test_what_is_judged_was_not_trained_on() -> None:
    unseen = [clip for clip in CLIPS if clip.fold == 2]
    figures = judged_without(Rote(), unseen, NAMES).figures()
    assert figures["clips"] == len(unseen) == 10
    assert (figures["temperature"], figures["thresholds"]) == (2.0, [0.0, 0.0])
    assert figures["accuracy"] == 0.5
    assert {answer["fold"] for answer in figures["answers"]} == {2}
    assert figures["notes"][1] == "By rote."
    assert "have heard the recordings of 1 of these 10 clips, without their labels" in figures["notes"][0]


def test_scores_before_calibration_are_those_of_the_logits_that_were_not_divided() -> None:
    judgement = judged_without(Rote(), CLIPS[:2], NAMES)
    np.testing.assert_allclose(judgement.before.segment[0], [16 / 17, 1 / 17], rtol=1e-5)  # 4 to 1, squared
    assert judgement.figures()["calibration"]["ece"] == pytest.approx(0.3, abs=1e-3)
    assert judgement.figures()["calibration_before"]["ece"] == pytest.approx(16 / 17 - 0.5, abs=1e-3)


def test_folds_are_pooled_as_clips_not_as_means() -> None:
    first, second = (judged_without(Rote(), clips, NAMES) for clips in (CLIPS[:1], CLIPS[1:4]))
    assert pooled([first, second])["accuracy"] == 0.5
    assert pooled([first, second])["clips"] == 4
    heard, by_rote, *_ = pooled([first, second])["notes"]  # once, though both say so
    assert "have heard the recordings of 1 of these 4 clips" in heard
    assert by_rote == "By rote."


def test_a_random_split_is_a_tenth_and_the_same_each_time() -> None:
    clips = [Clip(Path(f"{number}.wav"), "a", 1, "one") for number in range(2_000)]
    assert 150 < len(random_split(clips)) < 250
    assert random_split(clips) == random_split(list(reversed(clips)))[::-1]
