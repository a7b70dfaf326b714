"""What answers add up to, as JSON values. What cannot be said of the clips that were judged is None; notes say why.

Everything is of a clip's first segment, as one label of Earshot is; `clip_accuracy` alone asks the mean of the scores
of all of a clip's windows. `accuracy` is of the best class, whatever its score, and `labels_right` of what a worker
would say, by which an `unknown` is not right. A truth that is not one of the model's classes counts as wrong wherever
clips are counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from earshot.audio import SEGMENT_S
from earshot.labels import UNKNOWN
from training.data.background import is_generated
from training.evaluation.resampling import LEAST_RECORDINGS, share_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from training.evaluation.answers import Answers

BINS = 15
"""Bins of equal width of the calibration error, as Guo et al. have them (https://arxiv.org/abs/1706.04599)."""
_EDGES = np.linspace(0.0, 1.0, BINS + 1)
LEAST_SCORE = float(np.finfo(np.float32).eps)
"""Score that stands for a lower one in the log likelihood, which a single score of 0 would make infinite."""
DRAWS = 2000
"""Of what chance makes of the calibration error."""
WORST = 12
"""Mistakes that are shown."""
CURVE_POINTS = 200
"""Points of a curve that are kept, at most."""


def judge(everything: Answers) -> dict[str, Any]:
    """Every figure; `rows` has the answers that they are of.

    Sounds of no class count in `background` alone, those that were made for it in `generated_background`.
    """
    answers, heard = everything.of_classes, everything.of_background
    interval = accuracy_interval(answers)
    return {
        "clips": len(answers),
        "recordings": len({clip.source for clip in answers.clips}),
        "accuracy": _mean(answers.right),
        "accuracy_95": interval,
        "labels_right": _mean(answers.right & ~answers.unknown),
        "clip_accuracy": _mean(answers.whole.argmax(axis=1) == answers.truth),
        "macro_f1": macro_f1(answers),
        "classes": per_class(answers),
        "confusion": confusion(answers),
        "calibration": calibration(answers),
        "unknown": unknown(answers),
        "background": background(heard.where(lambda clip: not is_generated(clip))),
        "generated_background": background(heard.where(is_generated)),
        "worst": worst(answers),
        "notes": _notes(answers, interval),
    }


def rows(everything: Answers) -> list[dict[str, Any]]:
    """A row a clip: its file, recording, fold and truth, and what its first segment and all of it were answered.

    `segment` is the best class of the first segment, and `label` what a worker would make of it: that, or `unknown`.
    """
    answers = everything.of_classes
    names = answers.class_names
    return [
        {
            "clip": clip.path.name,
            "path": str(clip.path),
            "recording": clip.source,
            "fold": clip.fold,
            "truth": clip.label,
            "segment": names[best],
            "score": _round(score),
            "label": UNKNOWN if unknown else names[best],
            "clip_mean": names[whole],
        }
        for clip, best, score, unknown, whole in zip(
            answers.clips,
            answers.answered,
            answers.confidence,
            answers.unknown,
            answers.whole.argmax(axis=1),
            strict=True,
        )
    ]


def accuracy_interval(answers: Answers, seed: int = 0) -> list[float] | None:
    """Where the accuracy lies with 95 %, by resampling recordings: clips of one recording are right or wrong together.

    None where there are fewer than `LEAST_RECORDINGS`, or where all answers are right, or all wrong.
    """
    sources = [clip.source for clip in answers.clips]
    if len(set(sources)) < LEAST_RECORDINGS or answers.right.all() or not answers.right.any():
        return None
    return [_round(end) for end in share_interval(answers.right, sources, "two-sided", seed)]


def per_class(answers: Answers) -> dict[str, dict[str, Any]]:
    """For each class, and each truth that is none: clips (`support`), precision, recall, F1 and its curve.

    These go by the best class; `label_precision` and `label_recall` by what a worker would say, with `threshold`, the
    score from which on it says so: None where several models answered, each with its own. `average_precision`,
    `roc_auc` and `curve` are of its score against all other classes.
    """
    return {
        name: _counted(answers, name) | _labelled(answers, name) | _curve(answers, name) for name in _labels(answers)
    }


def macro_f1(answers: Answers) -> float | None:
    """Mean F1 of the classes that have clips."""
    scores = [f1 for name in _labels(answers) if (f1 := _counted(answers, name)["f1"]) is not None]
    return _round(np.mean(scores)) if scores else None


def confusion(answers: Answers) -> dict[str, dict[str, int]]:
    """How many clips of each truth got each answer; pairs that did not happen are left out."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for clip, best in zip(answers.clips, answers.answered, strict=True):
        table[clip.label][answers.class_names[best]] += 1
    return {truth: dict(row) for truth, row in sorted(table.items())}


def calibration(answers: Answers) -> dict[str, Any]:
    """Whether scores are probabilities: expected calibration error, Brier score, log likelihood, and the bins.

    `ece_by_chance` is what the error is to be held against, see `error_by_chance`. `brier` is the squared distance
    between scores and truth, 0 to 2. `nll` is of clips whose truth the model knows.
    """
    confidence, right, truth = answers.confidence.astype(np.float64), answers.right, answers.truth
    place, edges = _places(confidence), _EDGES.tolist()
    bins = [
        {
            "low": _round(edges[number]),
            "high": _round(edges[number + 1]),
            "clips": int((place == number).sum()),
            "confidence": _mean(confidence[place == number]),
            "accuracy": _mean(right[place == number]),
        }
        for number in range(BINS)
    ]
    known = np.flatnonzero(truth >= 0)
    scores = answers.segment.astype(np.float64)
    scores_of_truth = scores[known, truth[known]]
    squares = np.square(scores).sum(axis=1) + 1.0
    squares[known] -= 2.0 * scores_of_truth
    return {
        "ece": _round(calibration_error(confidence, right)) if len(answers) else None,
        "ece_by_chance": error_by_chance(confidence, [clip.source for clip in answers.clips]),
        "brier": _mean(squares),
        "nll": _mean(-np.log(np.maximum(scores_of_truth, LEAST_SCORE))),
        "bins": bins,
    }


def calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Expected calibration error: how far scores of answers, [n], are from how often they are right, the mean over n.

    Both are means over the answers whose scores are in the same of `BINS` bins (Guo et al. 2017).
    """
    return _error(_places(confidence), confidence, right)


def error_by_chance(confidence: NDArray[np.float64], sources: Sequence[str], seed: int = 0) -> dict[str, float] | None:
    """The calibration error of a model whose scores are true probabilities, on as many recordings.

    Its mean, and what it exceeds in one of twenty draws (`p95`), by drawing which answers are right from their
    `confidence` (consistency resampling: Broecker and Smith 2007). Clips of one recording are right or wrong together,
    as far as their scores let them: that is the most that chance can do, for few recordings, however many clips they
    have. None of fewer than `LEAST_RECORDINGS`.
    """
    recordings, source = np.unique(sources, return_inverse=True)
    if len(recordings) < LEAST_RECORDINGS:
        return None
    random = np.random.default_rng(seed)
    place = _places(confidence)
    drawn = (random.random(len(recordings))[source] < confidence for _ in range(DRAWS))
    errors = [_error(place, confidence, right) for right in drawn]
    return {"mean": _round(np.mean(errors)), "p95": _round(np.quantile(errors, 0.95))}


def by_chance(calibration: dict[str, Any]) -> str:
    """What chance makes of a calibration error, in words that follow it."""
    expected = calibration["ece_by_chance"]
    return f" (by chance up to {expected['p95']:.3f})" if expected else ""


def unknown(answers: Answers) -> dict[str, Any] | None:
    """What thresholds do: the share of labels that are `unknown`, and how many of the others are right.

    None where there are no thresholds, and `unknown` is no class of the model's.
    """
    if not answers.thresholds.any() and UNKNOWN not in answers.class_names:
        return None
    kept = ~answers.unknown
    return {"share": _mean(~kept), "answered": int(kept.sum()), "accuracy_of_answered": _mean(answers.right[kept])}


def background(answers: Answers) -> dict[str, Any] | None:
    """What is made of sounds of no class, of which each window is a clip: whatever is not `unknown` is a false accept.

    An hour has 1200 segments. Of a recording whole ones count, and of one that is shorter than a segment that one,
    padded with silence. None where there is no background.
    """
    if not len(answers):
        return None
    wrong = ~answers.unknown
    hours = len(answers) * SEGMENT_S / 3600
    named = Counter(answers.class_names[best] for best in answers.answered[wrong])
    return {
        "recordings": len({clip.source for clip in answers.clips}),
        "segments": len(answers),
        "false_accepts": int(wrong.sum()),
        "false_accepts_per_hour": round(float(wrong.sum() / hours), 1),
        "named": dict(named.most_common()),
    }


def worst(answers: Answers, most: int = WORST) -> list[dict[str, Any]]:
    """The wrong answers with the highest scores, the highest first: one of each recording, with how many it has."""
    wrong = np.flatnonzero(~answers.right)
    mistakes = Counter(answers.clips[number].source for number in wrong)
    surest: dict[str, int] = {}
    for number in wrong[np.argsort(-answers.confidence[wrong], kind="stable")].tolist():
        surest.setdefault(answers.clips[number].source, number)
    truth = answers.truth
    return [
        {
            "clip": answers.clips[number].path.name,
            "path": str(answers.clips[number].path),
            "fold": answers.clips[number].fold,
            "truth": answers.clips[number].label,
            "segment": answers.class_names[answers.answered[number]],
            "score": _round(answers.confidence[number]),
            "score_of_truth": _round(answers.segment[number, truth[number]]) if truth[number] >= 0 else None,
            "mistakes": mistakes[source],
        }
        for source, number in list(surest.items())[:most]
    ]


def _labels(answers: Answers) -> list[str]:
    """The model's classes but for `unknown`, then the truths that are none of them."""
    classes = [name for name in answers.class_names if name != UNKNOWN]
    return [*classes, *sorted({clip.label for clip in answers.clips} - set(classes))]


def _counted(answers: Answers, name: str) -> dict[str, Any]:
    mine, named = _of(answers, name), _named(answers, name)
    hits, support, answered = int((mine & named).sum()), int(mine.sum()), int(named.sum())
    return {
        "support": support,
        "precision": _mean(mine[named]),
        "recall": _mean(named[mine]),
        "f1": _round(2 * hits / (support + answered)) if support else None,
    }


def _labelled(answers: Answers, name: str) -> dict[str, Any]:
    mine, labelled = _of(answers, name), _named(answers, name) & ~answers.unknown
    known = name in answers.class_names and answers.thresholds.ndim == 1
    thresholds = np.broadcast_to(answers.thresholds, answers.segment.shape[1:]) if known else None
    return {
        "label_precision": _mean(mine[labelled]),
        "label_recall": _mean(labelled[mine]),
        "threshold": None if thresholds is None else _round(thresholds[answers.class_names.index(name)]),
    }


def _curve(answers: Answers, name: str) -> dict[str, Any]:
    mine = _of(answers, name)
    if name not in answers.class_names or mine.all() or not mine.any():  # a curve tells clips of a class from others
        return {"average_precision": None, "roc_auc": None, "curve": None}
    scores = answers.segment[:, answers.class_names.index(name)]
    precision, recall, _ = precision_recall_curve(mine, scores, drop_intermediate=True)
    points = np.linspace(0, len(recall) - 1, min(len(recall), CURVE_POINTS)).round().astype(np.int64)
    return {
        "average_precision": _round(average_precision_score(mine, scores)),
        "roc_auc": _round(roc_auc_score(mine, scores)),
        "curve": {
            "recall": [_round(value) for value in recall[points]],
            "precision": [_round(value) for value in precision[points]],
        },
    }


def _of(answers: Answers, name: str) -> NDArray[np.bool_]:
    return np.array([clip.label == name for clip in answers.clips], dtype=bool)


def _named(answers: Answers, name: str) -> NDArray[np.bool_]:
    return np.array([answers.class_names[best] == name for best in answers.answered], dtype=bool)


def _notes(answers: Answers, interval: list[float] | None) -> list[str]:
    """Why figures are missing or low that a reader would not expect to be."""
    support = Counter(clip.label for clip in answers.clips)
    absent = [name for name in answers.class_names if not support[name] and name != UNKNOWN]
    strange = [name for name in _labels(answers) if name not in answers.class_names]
    notes = []
    if strange:
        clips = sum(support[name] for name in strange)
        notes.append(f"The model does not know {', '.join(strange)}: {clips} clips count as wrong.")
    if absent:
        notes.append(f"No clip is of {', '.join(absent)}: there is no recall, F1 or curve, and macro F1 is without.")
    if len(support) == 1:
        notes.append("All clips are of one class, so there is nothing that a curve could tell it from.")
    if (recordings := len({clip.source for clip in answers.clips})) < LEAST_RECORDINGS:
        notes.append(
            f"Of {recordings} recordings, fewer than {LEAST_RECORDINGS}, neither an interval of the accuracy can be "
            "told nor what the calibration error may be by chance."
        )
    elif interval is None:
        notes.append("There is no interval of the accuracy, as all answers are right, or all wrong.")
    return notes


def _error(place: NDArray[np.int64], confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """See `calibration_error`; place: of each score, the number of its bin."""
    return float(np.abs(np.bincount(place, right, BINS) - np.bincount(place, confidence, BINS)).sum() / len(right))


def _places(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    """Number of the bin that each score is in."""
    return np.clip(np.digitize(confidence, _EDGES, right=True) - 1, 0, BINS - 1)


def _mean(values: NDArray[Any]) -> float | None:
    return _round(values.mean()) if values.size else None


def _round(value: Any) -> float:
    return round(float(value), 4)
