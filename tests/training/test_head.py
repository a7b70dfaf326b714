from __future__ import annotations

import numpy as np
import pytest

from training.head import train_head


def test_the_folded_layer_separates_what_can_be_separated_and_never_names_an_unseen_class() -> None:
    random = np.random.default_rng(0)
    targets = np.repeat([0, 2], 60)
    features = random.normal(size=(120, 40)).astype(np.float32) * 3 + 5
    features[targets == 2, :8] += 6
    groups = [str(number // 3) for number in range(120)]
    head, strength = train_head(features, targets, groups, classes=3)
    scores = head.scores(features)
    assert strength > 0
    assert (scores.argmax(axis=1) == targets).mean() > 0.95
    assert scores[:, 1].max() == 0.0
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("groups", [["a"] * 10 + ["b"] * 10, ["a"] * 10 + ["b"] * 5 + ["c"] * 5])
def test_few_recordings_are_enough_to_train_on(groups: list[str]) -> None:
    random = np.random.default_rng(0)
    targets = np.repeat([0, 1], 10)
    features = random.normal(size=(20, 8)).astype(np.float32)
    features[targets == 1, :4] += 6
    head, _ = train_head(features, targets, groups, classes=2)
    assert (head.scores(features).argmax(axis=1) == targets).all()
