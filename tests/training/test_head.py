from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from training.heads.calibration import Calibration
from training.heads.head import STRENGTHS, OutOfFold, TrainedHead, cross_validated, train_head

if TYPE_CHECKING:
    from numpy.typing import NDArray


def trained_on(
    features: Any,
    targets: Any,
    groups: list[str],
    classes: int,
    precision: float = 0.0,
    weights: Any = None,
    **how: Any,
) -> TrainedHead:
    """A head that is chosen by all of its own rows."""
    same = {name: value for name, value in how.items() if name != "background"}
    weighed = alike(targets) if weights is None else weights
    said = cross_validated(features, targets, weighed, groups, classes, **same)
    return train_head(features, targets, weighed, classes, said, precision=precision, **how)


def alike(targets: Any) -> Any:
    """Weights by which each row counts as one."""
    return np.ones(len(targets), dtype=np.float32)


def test_the_folded_layer_separates_what_can_be_separated_and_never_names_an_unseen_class() -> None:
    random = np.random.default_rng(0)
    targets = np.repeat([0, 2], 60)
    features = random.normal(size=(120, 40)).astype(np.float32) * 3 + 5
    features[targets == 2, :8] += 6
    groups = [str(number // 3) for number in range(120)]
    trained = trained_on(features, targets, groups, classes=3)
    scores = trained.head.scores(features)
    assert trained.strength > 0
    assert (scores.argmax(axis=1) == targets).mean() > 0.95
    assert scores[:, 1].max() == 0.0
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, rtol=1e-5)


def test_each_tapped_block_has_a_regression_of_its_own_and_their_logits_are_averaged() -> None:
    random = np.random.default_rng(0)
    targets = random.integers(0, 2, 400)
    blocks = [random.normal(size=(400, width)).astype(np.float32) for width in (6, 30)]
    for block in blocks:
        block[:, 0] += 3 * targets
    features, groups = np.concatenate(blocks, axis=1), [str(number) for number in range(400)]
    apart = trained_on(features[:200], targets[:200], groups[:200], 2, widths=(6, 30))
    alone = [trained_on(block[:200], targets[:200], groups[:200], 2) for block in blocks]
    ((kernel, bias),) = apart.head.layers
    assert (kernel.shape, bias.shape) == ((36, 2), (2,))
    for own, one in zip(np.split(kernel, [6]), alone, strict=True):
        assert one.strength == apart.strength
        before = one.head.layers[0][0] * one.calibration.temperature / 2
        np.testing.assert_allclose(own * apart.calibration.temperature, before, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("groups", [["a"] * 10 + ["b"] * 10, ["a"] * 10 + ["b"] * 5 + ["c"] * 5])
def test_few_recordings_are_enough_to_train_on(groups: list[str]) -> None:
    random = np.random.default_rng(0)
    targets = np.repeat([0, 1], 10)
    features = random.normal(size=(20, 8)).astype(np.float32)
    features[targets == 1, :4] += 6
    head = trained_on(features, targets, groups, classes=2).head
    assert (head.scores(features).argmax(axis=1) == targets).all()


def test_of_few_features_that_tell_the_classes_apart_next_to_all_is_learnt() -> None:
    random = np.random.default_rng(0)
    targets = random.integers(0, 2, 400)
    features = random.normal(size=(400, 6)).astype(np.float32)
    features[:, 0] += 3 * targets  # 93 % can be told apart
    trained = trained_on(features[:200], targets[:200], [str(number) for number in range(200)], 2)
    assert (trained.head.scores(features[200:]).argmax(axis=1) == targets[200:]).mean() > 0.9
    assert accuracy(trained) > 0.9


def accuracy(trained: TrainedHead) -> float:
    assert trained.accuracy is not None
    return trained.accuracy


def noisy(temperature_of: float = 1.0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Two classes that overlap, a row a recording."""
    random = np.random.default_rng(0)
    targets = random.integers(0, 2, 600)
    features = random.normal(size=(600, 10)).astype(np.float32) * temperature_of
    features[:, 0] += 1.5 * targets
    return features, targets, [str(number) for number in range(600)]


def test_of_nine_recordings_scores_stay_as_they_are_and_are_always_believed() -> None:
    features, targets, groups = noisy()
    few = [str(int(number) % 9) for number in groups[:400]]
    trained = trained_on(features[:400], targets[:400], few, classes=2, precision=0.9)
    assert trained.calibration == Calibration.none(9, 2)
    assert accuracy(trained) > 0.7
    ten = [str(int(number) % 10) for number in groups[:400]]
    calibrated = trained_on(features[:400], targets[:400], ten, classes=2, precision=0.9)
    assert calibrated.calibration.temperature != 1.0
    assert min(calibrated.calibration.thresholds) > 0


def test_a_head_whose_solver_was_stopped_says_so_and_nothing_is_warned_of(recwarn: pytest.WarningsRecorder) -> None:
    features, targets, groups = noisy()
    assert trained_on(features, targets, groups, classes=2).converged
    assert not trained_on(features, targets, groups, classes=2, steps=1).converged
    assert not recwarn.list


def test_scores_are_what_they_say_on_recordings_that_were_not_seen() -> None:
    features, targets, groups = noisy()
    trained = trained_on(features[:400], targets[:400], groups[:400], classes=2)
    scores = trained.head.scores(features[400:])
    sure, right = scores.max(axis=1), scores.argmax(axis=1) == targets[400:]
    assert sure.mean() == pytest.approx(right.mean(), abs=0.05)
    assert trained.calibration.temperature > 0


def test_a_class_is_not_believed_below_the_score_where_it_was_right_often_enough() -> None:
    features, targets, groups = noisy()
    trained = trained_on(features[:400], targets[:400], groups[:400], classes=2, precision=0.9)
    scores = trained.head.scores(features[400:])
    answered = scores.argmax(axis=1)
    believed = scores.max(axis=1) >= np.array(trained.calibration.thresholds)[answered]
    right = answered == targets[400:]
    assert right.mean() < 0.82
    assert right[believed].mean() > 0.85
    assert 0.2 < believed.mean() < 0.9
    assert trained_on(features, targets, groups, classes=2).calibration.thresholds == (0.0, 0.0)


def test_balanced_a_rare_class_is_heard_as_often_as_a_common_one() -> None:
    random = np.random.default_rng(0)
    targets = (np.arange(1_100) >= 1_000).astype(np.int64)
    features = random.normal(size=(1_100, 6)).astype(np.float32)
    features[:, 0] += 1.5 * targets
    groups = [str(number) for number in range(1_100)]

    def recalls(balance: bool) -> list[float]:
        answered = trained_on(features, targets, groups, 2, balance=balance).head.scores(features).argmax(axis=1)
        return [float((answered[targets == number] == number).mean()) for number in (0, 1)]

    common, rare = recalls(balance=True)
    assert common == pytest.approx(rare, abs=0.1)
    common, rare = recalls(balance=False)
    assert common > 0.95
    assert rare < 0.4


def test_noises_alone_tell_nothing_of_the_classes() -> None:
    """Each class has one recording, so heads can be asked about noises, of the third class, and about nothing else."""
    random = np.random.default_rng(0)
    targets = np.repeat([0, 1, 2], [10, 10, 60])
    features = random.normal(size=(80, 8)).astype(np.float32)
    features[:, 0] += 6 * targets
    groups = ["a"] * 10 + ["b"] * 10 + [str(number // 4) for number in range(60)]
    trained = trained_on(features, targets, groups, classes=3, precision=0.9)
    assert (trained.accuracy, trained.calibration) == (None, Calibration.none(0, 3))


def test_a_feature_that_hardly_varies_among_the_clips_does_not_decide_where_it_does() -> None:
    random = np.random.default_rng(0)
    targets = random.integers(0, 2, 60)
    features = random.normal(size=(60, 20)).astype(np.float32)
    features[:, 0] += 4 * targets
    features[:, 15:] = (targets[:, None] - 0.5) * 1e-4 + random.normal(size=(60, 5)) * 1e-4  # next to silent
    head = trained_on(features, targets, [str(number) for number in range(60)], 2).head
    louder = features.copy()
    louder[:, 15:] = -(targets[:, None] - 0.5) * 0.05  # still far below what the others say
    assert (head.scores(louder).argmax(axis=1) == targets).mean() > 0.9


def test_features_that_are_all_alike_can_be_trained_on() -> None:
    features, targets = np.ones((8, 4), dtype=np.float32), np.repeat([0, 1], 4)
    head = trained_on(features, targets, [str(number) for number in range(8)], 2).head
    np.testing.assert_allclose(head.scores(features), 0.5, atol=1e-6)


def test_rows_that_are_asked_choose_and_calibrate_alone() -> None:
    """Half of the recordings are easier than any that will come: by them a head would be too sure."""
    features, targets, groups = noisy()
    heard = np.arange(600) < 300
    features[heard, 0] += 4 * (targets[heard] - 0.5)
    by_all = trained_on(features, targets, groups, 2)
    said = cross_validated(features, targets, alike(targets), groups, 2, asked=~heard)
    by_unheard = train_head(features, targets, alike(targets), 2, said)
    assert accuracy(by_all) > accuracy(by_unheard) + 0.05
    assert by_all.calibration.temperature < by_unheard.calibration.temperature
    scores = by_unheard.head.scores(features[~heard])
    assert scores.max(axis=1).mean() == pytest.approx(accuracy(by_unheard), abs=0.05)
    assert said.scores.shape == (len(STRENGTHS), 300, 2)
    nobody = cross_validated(features, targets, alike(targets), groups, 2, asked=np.zeros(600, dtype=bool))
    by_nobody = train_head(features, targets, alike(targets), 2, nobody)
    assert (by_nobody.accuracy, by_nobody.calibration) == (None, Calibration.none(0, 2))
    np.testing.assert_array_equal(OutOfFold.together([nobody, said, nobody]).scores, said.scores)


def test_what_is_chosen_counts_by_itself() -> None:
    features, targets, groups = noisy()
    loss, counts = np.where(np.arange(600) < 300, 1.5, 0.5), np.where(np.arange(600) < 300, 0.0, 2.0)
    said = cross_validated(features, targets, loss, groups, 2, counts=counts)
    same = cross_validated(features, targets, loss, groups, 2)
    np.testing.assert_array_equal(said.scores, same.scores)
    assert (sorted(set(said.counts.tolist())), sorted(set(same.counts.tolist()))) == ([0.0, 2.0], [0.5, 1.5])
    assert sorted(set(said.weights.tolist())) == [0.5, 1.5]
    both = OutOfFold.together([said, same])
    np.testing.assert_array_equal(both.weights, np.tile(said.weights, 2))
    np.testing.assert_array_equal(both.counts, np.concatenate([said.counts, same.counts]))


def test_how_much_background_there_is_does_not_decide_how_sure_a_head_is_of_the_classes() -> None:
    features, targets, groups = noisy()
    noises = 20 + np.random.default_rng(1).normal(size=(600, 10)).astype(np.float32)
    more, labels = np.concatenate([features, noises]), np.concatenate([targets, np.full(600, 2)])
    sources = [*groups, *(f"noise {number}" for number in range(600))]
    alone = trained_on(features, targets, groups, 2)
    beside = trained_on(more, labels, sources, 3, background=2)
    assert accuracy(beside) == pytest.approx(accuracy(alone), abs=0.02)
    assert accuracy(trained_on(more, labels, sources, 3)) > accuracy(alone) + 0.08
    scores = beside.head.scores(features)
    right = scores.argmax(axis=1) == targets
    assert scores.max(axis=1).mean() == pytest.approx(right.mean(), abs=0.03)


def test_one_class_is_told_from_background() -> None:
    """Of the class alone a head that always names it would be right."""
    random = np.random.default_rng(0)
    targets = (np.arange(120) >= 80).astype(np.int64)
    features = random.normal(size=(120, 8)).astype(np.float32)
    features[:, 0] += 2.4 * targets
    trained = trained_on(features, targets, [str(number) for number in range(120)], 2, background=1)
    named = trained.head.scores(features).argmax(axis=1)
    assert (named[targets == 1] == 1).mean() > 0.6


def test_a_row_that_weighs_more_is_learnt_from_and_chooses_as_so_many_rows() -> None:
    """A tenth of the recordings, which weigh thirty times as much as others, have the classes the other way round."""
    features, targets, groups = noisy()
    heavy = np.arange(600) % 10 == 0
    targets = np.where(heavy, 1 - targets, targets)
    weights = np.where(heavy, 30.0, 1.0)
    more = np.repeat(np.arange(600), weights.astype(int))

    def chosen(rows: Any, counts: Any) -> TrainedHead:
        own = [groups[row] for row in rows]
        return trained_on(features[rows], targets[rows], own, 2, precision=0.7, weights=counts)

    by_weight, repeated, alone = chosen(range(600), weights), chosen(more, None), chosen(range(600), None)
    assert accuracy(by_weight) == pytest.approx(accuracy(repeated), abs=0.05)  # they are dealt into other parts
    said = [one.head.scores(features)[:, 1] for one in (by_weight, repeated, alone)]
    assert np.corrcoef(said[0], said[1])[0, 1] > 0.9
    assert np.corrcoef(said[0], said[2])[0, 1] < -0.5


def test_features_are_scaled_by_what_rows_weigh() -> None:
    features, targets, groups = noisy()
    features[:300, 0] *= 50
    light = np.where(np.arange(600) < 300, 1e-6, 2.0)
    ((kernel, _),) = trained_on(features, targets, groups, 2, weights=light).head.layers
    ((alone, _),) = trained_on(features[300:], targets[300:], groups[300:], 2).head.layers
    np.testing.assert_allclose(kernel[0], alone[0], rtol=0.3)


def test_balanced_each_part_is_learnt_from_and_answers_count_as_if_classes_were_alike() -> None:
    """Where only some recordings are asked about, too: nine tenths of the common class are not."""
    random = np.random.default_rng(0)
    targets = (np.arange(660) >= 600).astype(np.int64)
    features = random.normal(size=(660, 6)).astype(np.float32)
    features[:, 0] += 1.5 * targets
    groups, counts = [str(number) for number in range(660)], np.ones(660)
    asked = np.arange(660) >= 540
    said = cross_validated(features, targets, counts, groups, 2, balance=True, asked=asked)
    named = said.scores[-1].argmax(axis=1)
    recalls = [float((named[said.truth == number] == number).mean()) for number in (0, 1)]
    assert recalls[0] == pytest.approx(recalls[1], abs=0.15)
    alike = train_head(features, targets, counts, 2, said, balance=True, precision=0.9).calibration
    thrice = np.concatenate([np.flatnonzero(said.truth == 0), *[np.flatnonzero(said.truth == 1)] * 3])
    ones = np.ones(len(thrice))
    more = OutOfFold(said.scores[:, thrice], said.truth[thrice], ones, ones, tuple(map(str, thrice)))
    repeated = train_head(features, targets, counts, 2, more, balance=True, precision=0.9).calibration
    assert repeated.temperature == pytest.approx(alike.temperature, rel=0.05)
    assert repeated.thresholds == pytest.approx(alike.thresholds, abs=0.02)


def chosen_by(
    scores: NDArray[np.float32], truth: list[int], weights: list[float], counts: list[float], **how: Any
) -> TrainedHead:
    features, targets, _ = noisy()
    said = OutOfFold(
        scores,
        np.array(truth, dtype=np.int64),
        weights=np.array(weights, dtype=np.float64),
        counts=np.array(counts, dtype=np.float64),
        sources=tuple(f"recording {number}" for number in range(len(truth))),
    )
    return train_head(features, targets, alike(targets), scores.shape[2], said, **how)


def test_the_strength_is_the_one_whose_scores_are_likeliest_by_what_counts_in_learning() -> None:
    """Two answers, of which each strength gets another one right."""
    scores = np.log(np.full((len(STRENGTHS), 2, 2), 0.5, dtype=np.float32))
    scores[1] = np.log([[0.9, 0.1], [0.6, 0.4]])
    scores[4] = np.log([[0.4, 0.6], [0.1, 0.9]])
    first = chosen_by(scores, [0, 1], [3, 1], [1, 3])
    assert (first.strength, accuracy(first)) == (STRENGTHS[1], 0.25)
    second = chosen_by(scores, [0, 1], [1, 3], [1, 3])
    assert (second.strength, accuracy(second)) == (STRENGTHS[4], 0.75)


def test_of_strengths_that_name_the_same_the_likeliest_is_chosen_and_of_those_the_strongest_penalty() -> None:
    margins = np.full((len(STRENGTHS), 4), [2.0, 2.0, 2.0, 0.1])
    margins[2:4] = 1.0  # alike, so the first
    scores = np.stack([margins, np.zeros_like(margins)], axis=2).astype(np.float32)
    truth = [0, 0, 0, 0]
    assert chosen_by(scores, truth, [1.0] * 4, [1.0] * 4).strength == STRENGTHS[2]


def test_balanced_classes_choose_the_strength_alike_and_background_does_not() -> None:
    scores = np.log(np.full((len(STRENGTHS), 5, 3), 1 / 3, dtype=np.float32))
    scores[1, :3], scores[1, 3] = np.log([0.6, 0.3, 0.1]), np.log([0.4, 0.3, 0.3])  # three of a class, then one
    scores[4, :3], scores[4, 3] = np.log([0.3, 0.4, 0.3]), np.log([0.1, 0.8, 0.1])
    scores[2, 4] = np.log([1e-4, 1e-4, 1 - 2e-4])  # and background
    ones, truth = [1.0] * 5, [0, 0, 0, 1, 2]
    chosen = {
        balance: chosen_by(scores, truth, ones, ones, balance=balance, background=2).strength
        for balance in (False, True)
    }
    assert chosen == {False: STRENGTHS[1], True: STRENGTHS[4]}
    with_background = chosen_by(scores, truth, [1, 1, 1, 1, 50], ones).strength
    assert with_background == STRENGTHS[2]
    assert chosen_by(scores, truth, [1, 1, 1, 1, 50], ones, background=2).strength == STRENGTHS[1]


def test_where_nobody_is_asked_the_penalty_is_the_strongest() -> None:
    assert chosen_by(np.zeros((len(STRENGTHS), 0, 2), dtype=np.float32), [], [], []).strength == STRENGTHS[0]
