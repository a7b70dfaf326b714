from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from earshot.labels import UNKNOWN
from training.data.clips import Clip
from training.evaluation.answers import Answers
from training.evaluation.metrics import (
    BINS,
    accuracy_interval,
    calibration,
    confusion,
    error_by_chance,
    judge,
    macro_f1,
    per_class,
    rows,
    unknown,
    worst,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES = ("cat", "dog", "owl")


def answers(
    truths: Sequence[str],
    scores: Sequence[Sequence[float]],
    sources: Sequence[str] | None = None,
    names: tuple[str, ...] = NAMES,
    thresholds: Sequence[float] = (0.0,),
) -> Answers:
    sources = sources or [str(number) for number in range(len(truths))]
    clips = [
        Clip(Path("data") / f"{number}.wav", truth, 1, source)
        for number, (truth, source) in enumerate(zip(truths, sources, strict=True))
    ]
    values = np.array(scores, np.float32).reshape(len(truths), len(names))
    return Answers(names, tuple(clips), values, values, np.array(thresholds, np.float32))


FIVE = answers(
    ["cat", "cat", "dog", "dog", "owl"],
    [[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.0, 0.9, 0.1], [0.1, 0.2, 0.7], [0.1, 0.1, 0.8]],
)
"""Three of five right: cat 1 of 2, dog 1 of 2, owl 1 of 1."""


@st.composite
def judged(draw: st.DrawFn) -> Answers:
    """Any few clips of classes that are known or not, and scores that may tie."""
    names = draw(st.sampled_from([("cat", "dog"), NAMES]))
    truths = draw(st.lists(st.sampled_from([*names, "fox"]), min_size=1, max_size=25))
    cell = st.integers(1, 20)
    table = draw(st.lists(st.tuples(*[cell] * len(names)), min_size=len(truths), max_size=len(truths)))
    sources = draw(st.lists(st.sampled_from("abcdef"), min_size=len(truths), max_size=len(truths)))
    return answers(truths, [[value / sum(row) for value in row] for row in table], sources, names)


def test_counts_by_hand() -> None:
    assert confusion(FIVE) == {"cat": {"cat": 1, "dog": 1}, "dog": {"dog": 1, "owl": 1}, "owl": {"owl": 1}}
    found = per_class(FIVE)
    shown = {name: tuple(one[key] for key in ("support", "precision", "recall", "f1")) for name, one in found.items()}
    assert shown == {"cat": (2, 1.0, 0.5, 0.6667), "dog": (2, 0.5, 0.5, 0.5), "owl": (1, 0.5, 1.0, 0.6667)}
    assert macro_f1(FIVE) == 0.6111
    assert {(one["label_recall"], one["threshold"]) for one in found.values()} == {(0.5, 0.0), (1.0, 0.0)}
    whole = judge(FIVE)
    assert (whole["clips"], whole["recordings"], whole["accuracy"], whole["clip_accuracy"]) == (5, 5, 0.6, 0.6)
    assert [note[:16] for note in whole["notes"]] == ["Of 5 recordings,"]


def test_labels_of_a_class_are_counted_with_its_threshold_and_the_best_class_without() -> None:
    strict = replace(FIVE, thresholds=np.array([0.0, 0.99, 0.0], np.float32))
    found = per_class(strict)
    assert [found["dog"][key] for key in ("precision", "recall")] == [0.5, 0.5]
    assert [found["dog"][key] for key in ("label_precision", "label_recall", "threshold")] == [None, 0.0, 0.99]
    assert [found["cat"][key] for key in ("label_precision", "label_recall", "threshold")] == [1.0, 0.5, 0.0]
    each = replace(FIVE, thresholds=np.zeros_like(FIVE.segment))  # of models with thresholds of their own
    assert [one["threshold"] for one in per_class(each).values()] == [None] * 3


@given(judged())
@settings(max_examples=60, deadline=None)
def test_figures_are_those_of_scikit_learn(some: Answers) -> None:
    truth = [clip.label for clip in some.clips]
    answered = [some.class_names[best] for best in some.answered]
    support = sorted(set(truth))
    f1 = reference.f1_score(truth, answered, labels=support, average="macro", zero_division=0)
    assert macro_f1(some) == pytest.approx(f1, abs=1e-4)
    for name, one in per_class(some).items():
        own, said = [label == name for label in truth], [label == name for label in answered]
        assert one["recall"] == (pytest.approx(reference.recall_score(own, said), abs=1e-4) if any(own) else None)
        assert one["precision"] == (
            pytest.approx(reference.precision_score(own, said), abs=1e-4) if any(said) else None
        )
        if one["roc_auc"] is not None:
            scores = some.segment[:, some.class_names.index(name)]
            assert one["roc_auc"] == pytest.approx(reference.roc_auc_score(own, scores), abs=1e-4)
            assert one["average_precision"] == pytest.approx(reference.average_precision_score(own, scores), abs=1e-4)
            assert one["curve"]["recall"][0] == 1.0
            assert one["curve"]["precision"][-1] == 1.0


@given(judged())
@settings(max_examples=60, deadline=None)
def test_everything_is_json_and_shares_are_shares(some: Answers) -> None:
    whole = json.loads(json.dumps(judge(some), allow_nan=False))
    assert sum(map(sum, (row.values() for row in whole["confusion"].values()))) == len(some)
    assert whole["accuracy"] == pytest.approx(some.right.mean(), abs=1e-4)
    assert sum(each["clips"] for each in whole["calibration"]["bins"]) == len(some)
    assert 0 <= whole["calibration"]["ece"] <= 1
    if whole["accuracy_95"]:
        low, high = whole["accuracy_95"]
        assert 0 <= low <= high <= 1
    strange = {clip.label for clip in some.clips} - set(some.class_names)
    assert all(whole["classes"][name]["recall"] == 0.0 for name in strange)
    assert any("does not know fox" in note for note in whole["notes"]) == bool(strange)


def test_calibration_by_hand() -> None:
    # Two answers of 0.9, one of them right, and one of 0.58 that is right: 2/3 x |0.5 - 0.9| + 1/3 x |1 - 0.58|.
    three = answers(["cat", "dog", "dog"], [[0.9, 0.1], [0.9, 0.1], [0.42, 0.58]], names=("cat", "dog"))
    found = calibration(three)
    assert found["ece"] == pytest.approx(0.4067)
    assert found["brier"] == pytest.approx((0.02 + 1.62 + 0.3528) / 3, abs=1e-4)
    assert found["nll"] == pytest.approx(-np.log([0.9, 0.1, 0.58]).mean(), abs=1e-4)
    assert len(found["bins"]) == BINS
    full = [(each["low"], each["high"], each["clips"], each["accuracy"]) for each in found["bins"] if each["clips"]]
    assert full == [(0.5333, 0.6, 1, 1.0), (0.8667, 0.9333, 2, 0.5)]


def test_what_of_the_calibration_error_chance_would_make_by_hand() -> None:
    sources = list("abcdefghij")
    sure, even = np.ones(10), np.full(10, 0.5)
    assert error_by_chance(sure, sources) == {"mean": 0.0, "p95": 0.0}
    # Ten coins: the share of heads is 0.123 from a half in the mean, and 0.3 or more in one of nine throws.
    apart = error_by_chance(even, sources)
    assert apart is not None
    assert apart["mean"] == pytest.approx(0.123, abs=0.01)
    assert apart["p95"] == pytest.approx(0.3)
    # Clips of one recording are all right or all wrong, whatever their number.
    assert error_by_chance(even.repeat(9), [one for one in sources for _ in range(9)]) == apart
    assert error_by_chance(even, [*sources[:9], "a"]) is None


def test_scores_that_are_true_probabilities_are_seldom_farther_off_than_chance_says() -> None:
    random = np.random.default_rng(0)
    above = 0
    for _ in range(100):
        confidence = random.uniform(0.5, 1, 40).round(2)
        right = random.random(40) < confidence
        cat = np.where(right, confidence, 1 - confidence)
        found = calibration(answers(["cat"] * 40, np.stack([cat, 1 - cat], 1).tolist(), names=("cat", "dog")))
        above += found["ece"] > found["ece_by_chance"]["p95"]
    assert 1 <= above <= 12


def test_a_score_of_0_or_1_is_in_the_first_or_last_bin_and_costs_no_infinite_likelihood() -> None:
    found = calibration(answers(["cat", "dog"], [[1.0, 0.0], [1.0, 0.0]], names=("cat", "dog")))
    assert found["bins"][-1]["clips"] == 2
    assert found["ece"] == 0.5
    assert found["nll"] == pytest.approx(-np.log(np.finfo(np.float32).eps) / 2, abs=1e-3)
    assert calibration(answers(["cat"], [[0.0, 0.0]], names=("cat", "dog")))["bins"][0]["clips"] == 1


def test_clips_of_few_recordings_leave_a_wider_interval_than_as_many_recordings() -> None:
    truths = ["cat"] * 100
    scores = [[0.9, 0.1, 0.0]] * 60 + [[0.1, 0.9, 0.0]] * 40
    alone = accuracy_interval(answers(truths, scores))
    together = accuracy_interval(answers(truths, scores, [str(number // 10) for number in range(100)]))
    assert alone is not None
    assert together is not None
    # Of a share of 0.6, 1.96 standard errors: sqrt(0.24 / n) with n = 100 clips, or 10 recordings.
    assert alone == [pytest.approx(0.6 - 0.096, abs=0.02), pytest.approx(0.6 + 0.096, abs=0.02)]
    assert together == [pytest.approx(0.6 - 0.304, abs=0.07), pytest.approx(0.6 + 0.304, abs=0.07)]
    assert accuracy_interval(answers(truths, scores, [str(number // 12) for number in range(100)])) is None
    assert accuracy_interval(answers(truths, scores)) == alone


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """100 data sets of 60 recordings with 1 to 9 clips, each right or wrong as a whole: 95 % of intervals hold it."""
    random = np.random.default_rng(0)
    held = 0
    for _ in range(100):
        right = random.random(60) < 0.7
        clips = random.integers(1, 10, 60)
        sources = np.repeat(np.arange(60), clips)
        scores = np.where(right[sources, None], [[0.9, 0.1, 0.0]], [[0.1, 0.9, 0.0]])
        found = accuracy_interval(answers(["cat"] * len(sources), scores.tolist(), sources.astype(str).tolist()))
        assert found is not None
        held += found[0] <= 0.7 <= found[1]
    assert held >= 88


FIGURES_OF_A_CLASS = (
    *("precision", "recall", "f1", "label_precision", "label_recall", "threshold"),
    *("average_precision", "roc_auc", "curve"),
)


@pytest.mark.parametrize(
    ("some", "words"),
    [
        (answers(["cat"], [[0.9, 0.1, 0.0]]), "All clips are of one class"),
        (answers(["cat"] * 9, [[0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [1.0, 0.0, 0.0]] * 3), "Of 9 recordings, fewer than"),
        (answers(["cat"] * 10, [[0.9, 0.1, 0.0]] * 10), "no interval of the accuracy, as all answers are right"),
        (answers(["cat", "dog"], [[0.9, 0.1, 0.0], [0.1, 0.9, 0.0]]), "No clip is of owl"),
        (answers(["cat", "fox"], [[0.9, 0.1, 0.0], [0.1, 0.9, 0.0]]), "does not know fox: 1 clips count as wrong"),
    ],
)
def test_what_cannot_be_said_is_none_and_said_so(some: Answers, words: str) -> None:
    found = judge(some)
    assert any(words in note for note in found["notes"])
    owl = found["classes"]["owl"]
    assert owl == dict.fromkeys(FIGURES_OF_A_CLASS) | {"support": 0, "threshold": 0.0}
    assert all(one["roc_auc"] is None for one in found["classes"].values()) == (len({*found["confusion"]}) == 1)


def test_no_clip_has_no_figure() -> None:
    found = judge(answers([], []))
    assert found["clips"] == 0
    assert [found[key] for key in ("accuracy", "accuracy_95", "labels_right", "clip_accuracy", "macro_f1")] == [
        None
    ] * 5
    assert (found["calibration"]["ece"], found["confusion"], found["worst"]) == (None, {}, [])
    assert found["calibration"]["ece_by_chance"] is None


def test_thresholds_trade_answers_for_right_ones() -> None:
    assert unknown(FIVE) is None
    strict = answers([clip.label for clip in FIVE.clips], FIVE.segment.tolist(), thresholds=(0.5, 0.7, 0.75))
    assert unknown(strict) == {"share": 0.4, "answered": 3, "accuracy_of_answered": 1.0}
    judged = judge(strict)
    assert (judged["labels_right"], judged["accuracy"]) == (0.6, judge(FIVE)["accuracy"])  # an `unknown` is not right
    assert judge(FIVE)["labels_right"] == judge(FIVE)["accuracy"]
    never = answers(["cat"], [[0.4, 0.3, 0.3]], thresholds=(0.9,))
    assert unknown(never) == {"share": 1.0, "answered": 0, "accuracy_of_answered": None}


def test_the_surest_mistakes_come_first_with_the_score_that_the_truth_got() -> None:
    some = answers(["cat", "dog", "fox", "owl"], [[0.4, 0.6, 0.0], [0.0, 1.0, 0.0], [0.2, 0.0, 0.8], [0.35, 0.35, 0.3]])
    found = [(one["clip"], one["truth"], one["segment"], one["score"], one["score_of_truth"]) for one in worst(some)]
    assert found == [
        ("2.wav", "fox", "owl", 0.8, None),
        ("0.wav", "cat", "dog", 0.6, 0.4),
        ("3.wav", "owl", "cat", 0.35, 0.3),
    ]
    assert [Path(one["path"]) for one in worst(some, 1)] == [Path("data/2.wav")]


def test_mistakes_of_one_recording_are_shown_once_and_counted() -> None:
    scores = [[0.1, 0.9, 0.0], [0.0, 1.0, 0.0], [0.2, 0.8, 0.0]]
    found = worst(answers(["cat"] * 3, scores, ["x", "x", "y"]))
    assert [(one["clip"], one["mistakes"]) for one in found] == [("1.wav", 2), ("2.wav", 1)]


def test_every_clip_has_its_row() -> None:
    both = {"fold": 1, "truth": "cat"}
    expected: list[dict[str, Any]] = [
        {**both, "clip": "0.wav", "segment": "cat", "score": 0.8, "label": "cat", "clip_mean": "cat"},
        {**both, "clip": "1.wav", "segment": "dog", "score": 0.6, "label": UNKNOWN, "clip_mean": "dog"},
    ]
    sources = [clip.source for clip in FIVE.clips]
    answered = rows(replace(FIVE, thresholds=np.array([0.8, 0.7, 0.0], np.float32)))
    assert answered[:2] == [
        {**one, "path": str(Path("data") / one["clip"]), "recording": source}
        for one, source in zip(expected, sources, strict=False)
    ]
    assert len(answered) == 5


def test_a_curve_of_many_clips_keeps_its_ends_and_few_points() -> None:
    random = np.random.default_rng(0)
    scores = random.dirichlet((1, 1, 1), 3000)
    curve = per_class(answers(random.choice(NAMES, 3000).tolist(), scores.tolist()))["cat"]["curve"]
    assert 100 < len(curve["recall"]) <= 200
    assert (curve["recall"][0], curve["recall"][-1], curve["precision"][-1]) == (1.0, 0.0, 1.0)
