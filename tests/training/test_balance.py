from __future__ import annotations

import numpy as np

from training.heads.balance import class_weights


def test_all_classes_weigh_the_same_and_all_examples_as_many_as_they_are() -> None:
    classes = np.repeat([0, 1, 3], [8, 3, 1])
    weights = class_weights(classes, 5)
    np.testing.assert_allclose(weights[[0, 1, 3]] * [8, 3, 1], 4)
    assert weights[[2, 4]].tolist() == [0, 0]  # no example is of these
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights[classes].sum(), 12)


def test_classes_of_as_many_examples_weigh_as_if_there_were_no_balance() -> None:
    assert class_weights(np.tile([0, 1, 2], 7), 3).tolist() == [1, 1, 1]
