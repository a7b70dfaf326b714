"""How good a head is on clips that it never saw: accuracy, the confusion table, and every clip's answer."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from serving.network import Head
    from training.bottlenecks import Features
    from training.clips import Clip


def evaluate(head: Head, features: Mapping[Clip, Features], class_names: Sequence[str]) -> dict[str, Any]:
    """What `head` answers for each clip, and what that adds up to, as JSON values.

    `accuracy` is of one segment, a clip's first three seconds, as a label is; `clip_accuracy` asks the mean of the
    scores of a clip's back-to-back segments.
    """
    rows = []
    confusion: dict[str, Counter[str]] = defaultdict(Counter)
    for clip, one in features.items():
        scores = head.scores(one.heard)
        segment, whole = class_names[int(scores[0].argmax())], class_names[int(scores.mean(axis=0).argmax())]
        confusion[clip.label][segment] += 1
        rows.append({"clip": clip.path.name, "truth": clip.label, "segment": segment, "clip_mean": whole})
    return {
        "clips": len(rows),
        "accuracy": _share([row["segment"] == row["truth"] for row in rows]),
        "clip_accuracy": _share([row["clip_mean"] == row["truth"] for row in rows]),
        "recall": {
            truth: _share([row["segment"] == truth for row in rows if row["truth"] == truth]) for truth in confusion
        },
        "confusion": {truth: dict(row) for truth, row in sorted(confusion.items())},
        "answers": rows,
    }


def _share(hits: list[bool]) -> float | None:
    return round(sum(hits) / len(hits), 4) if hits else None
