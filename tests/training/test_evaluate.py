from __future__ import annotations

from pathlib import Path

import numpy as np

from serving.network import Head
from training.bottlenecks import Features
from training.clips import Clip
from training.evaluate import evaluate

NAMES = ("a", "b")
SAME = Head(((np.eye(2, dtype=np.float32), np.zeros(2, np.float32)),))
"""A head whose scores are the softmax of the features."""


def heard(label: str, name: str, *windows: tuple[float, float]) -> tuple[Clip, Features]:
    rows = np.array(windows, np.float32)
    return Clip(Path(f"{name}.wav"), label, 1, name), Features(rows, rows[:1])


def test_first_window_and_mean_of_all_windows_are_counted_apart() -> None:
    features = dict(
        [
            heard("a", "both", (5, 0)),
            heard("a", "only-later", (0, 1), (9, 0), (9, 0)),
            heard("b", "only-first", (0, 1), (9, 0), (9, 0)),
            heard("b", "neither", (5, 0)),
        ]
    )
    found = evaluate(SAME, features, NAMES)
    assert (found["clips"], found["accuracy"], found["clip_accuracy"]) == (4, 0.5, 0.5)
    assert found["recall"] == {"a": 0.5, "b": 0.5}
    assert found["confusion"] == {"a": {"a": 1, "b": 1}, "b": {"a": 1, "b": 1}}
    assert [(row["clip"], row["truth"], row["segment"], row["clip_mean"]) for row in found["answers"]] == [
        ("both.wav", "a", "a", "a"),
        ("only-later.wav", "a", "b", "a"),
        ("only-first.wav", "b", "b", "a"),
        ("neither.wav", "b", "a", "a"),
    ]


def test_the_window_after_silence_is_for_training_only() -> None:
    clip = Clip(Path("x.wav"), "a", 1, "x")
    misleading = Features(np.array([[3.0, 0.0]], np.float32), np.array([[0.0, 99.0]], np.float32))
    assert evaluate(SAME, {clip: misleading}, NAMES)["clip_accuracy"] == 1.0


def test_no_clip_has_no_accuracy() -> None:
    found = evaluate(SAME, {}, NAMES)
    assert (found["clips"], found["accuracy"], found["recall"], found["answers"]) == (0, None, {}, [])
