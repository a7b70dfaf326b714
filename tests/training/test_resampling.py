"""The interval of a share of clips, by drawing recordings."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from training.evaluation.resampling import share_interval


def test_the_ends_are_those_of_shares_of_recordings_drawn_with_replacement() -> None:
    rng = np.random.default_rng(1)
    of = rng.integers(1, 30, 40)
    gained = rng.integers(-of, of + 1)
    drawn = rng.integers(40, size=(20_000, 40))
    shares = gained[drawn].sum(axis=1) / of[drawn].sum(axis=1)
    clips = np.concatenate(
        [np.sign(won) * (np.arange(count) < abs(won)) for won, count in zip(gained, of, strict=True)]
    )
    sources = np.repeat(np.arange(40), of).astype(str).tolist()
    low, high = share_interval(clips, sources, "two-sided")
    assert [low, high] == pytest.approx(np.percentile(shares, [2.5, 97.5]), abs=0.01)
    one_sided = share_interval(clips, sources, "greater")
    assert one_sided[0] == pytest.approx(np.percentile(shares, 5), abs=0.01)
    assert one_sided[1] == math.inf
    assert share_interval(clips, sources, "two-sided") == (low, high)
    assert share_interval(clips, sources, "two-sided", seed=1) != (low, high)


def test_where_all_recordings_say_the_same_there_is_no_doubt_and_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        right, sources = np.tile([True, False], 24), [str(number // 4) for number in range(48)]
        assert share_interval(right, sources, "two-sided") == (0.5, 0.5)
