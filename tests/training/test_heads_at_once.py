"""Heads of cross-validation are trained at the same time, and end together."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

import numpy as np
import pytest

from serving.network import Head
from training.heads import head
from training.heads.head import cross_validated
from training.heads.parts import parts_of


@pytest.mark.parametrize(
    ("cores", "memory", "expected"), [(1, 2**30, 1), (3, 2**30, 3), (8, 3 * 120 * 6 * 4, 3), (8, 1, 1)]
)
def test_heads_are_trained_at_the_same_time_as_far_as_copies_may_go_and_come_out_alike(
    monkeypatch: pytest.MonkeyPatch, cores: int, memory: int, expected: int
) -> None:
    random = np.random.default_rng(0)
    targets = random.integers(0, 3, 120)
    features = random.normal(size=(120, 6)).astype(np.float32)
    features[np.arange(120), targets] += 1
    asked = features, targets, np.ones(len(targets), np.float32), [str(number // 2) for number in range(120)], 3
    monkeypatch.setattr("training.heads.head.os.cpu_count", lambda: 1)
    alone = cross_validated(*asked)
    running, most, begun, lock, all_run = 0, 0, 0, threading.Lock(), threading.Barrier(expected)

    def counted(*arguments: Any) -> Any:
        nonlocal running, most, begun
        with lock:
            running, begun = running + 1, begun + 1
            most, first = max(most, running), begun <= expected
        if first:
            all_run.wait(60)
        yield from path(*arguments)
        with lock:
            running -= 1

    path = head._path
    monkeypatch.setattr(head, "_path", counted)
    monkeypatch.setattr(head, "_COPIES_BYTES", memory)
    monkeypatch.setattr("training.heads.head.os.cpu_count", lambda: cores)
    together = cross_validated(*asked)
    assert most == expected
    np.testing.assert_array_equal(together.scores, alone.scores)
    np.testing.assert_array_equal(together.truth, alone.truth)


def test_where_one_head_fails_or_ctrl_c_comes_the_others_end_at_their_next_strength(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, ended, lock, second = 0, 0, threading.Lock(), threading.Event()

    def path(_: Any, learnt: Any, *__: Any) -> Any:
        nonlocal begun, ended
        with lock:
            begun += 1
        if np.array_equal(learnt, first):
            second.wait(60)
            raise KeyboardInterrupt
        second.set()
        try:
            for strength in itertools.count():  # for ever, were it not stopped
                time.sleep(0.01)
                yield Head(((np.zeros((6, 3), np.float32), np.zeros(3, np.float32)),)), bool(strength)
        finally:
            ended += 1

    features, targets, groups = np.ones((120, 6), np.float32), np.arange(120) % 3, [str(row) for row in range(120)]
    first = parts_of(targets, groups, head.PARTS, 0)[0][0]
    monkeypatch.setattr(head, "_path", path)
    monkeypatch.setattr(head, "STRENGTHS", range(10**6))
    monkeypatch.setattr("training.heads.head.os.cpu_count", lambda: 2)
    with pytest.raises(KeyboardInterrupt):
        cross_validated(features, targets, np.ones(len(targets), np.float32), groups, 3)
    assert begun <= 3, "those that wait are not begun"
    assert ended == begun - 1
