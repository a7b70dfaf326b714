from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from serving.network import Head
from training.heads.calibration import Calibration, calibrate, choose_thresholds, cooled, fit_temperature


def sampled(temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `temperature` times too large for the targets that were drawn from them."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4_000, 5))
    targets = np.array([rng.choice(5, p=row) for row in softmax(logits, axis=1)])
    return logits * temperature, targets


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_was_put_in_is_found(temperature: float) -> None:
    assert fit_temperature(*sampled(temperature), np.ones(4_000)) == pytest.approx(temperature, rel=0.05)


def test_background_has_a_say_in_thresholds_and_none_in_the_temperature() -> None:
    logits, targets = sampled(2.0)
    sources = [str(number) for number in range(len(targets))]
    alone = calibrate(logits, targets, np.ones(4_000), sources, background=5, precision=0.9)
    assert alone.temperature == pytest.approx(2.0, rel=0.05)
    noise = np.full((4_000, 6), -1.0)
    noise[:, 0] = 6.0  # always taken for the first class, and surely
    both = np.concatenate([np.pad(logits, ((0, 0), (0, 1)), constant_values=-20.0), noise])
    more = np.concatenate([targets, np.full(4_000, 5)])
    beside = calibrate(both, more, np.ones(8_000), sources + sources, background=5, precision=0.9)
    assert beside.temperature == pytest.approx(alone.temperature, rel=1e-3)
    assert beside.thresholds[0] > alone.thresholds[0] + 0.05
    assert beside.thresholds[1:5] == pytest.approx(alone.thresholds[1:], abs=1e-3)
    assert alone.notes == ()


def test_fewer_than_ten_recordings_of_classes_calibrate_nothing() -> None:
    logits, targets = sampled(2.0)
    few = [f"{number % 9}" for number in range(4_000)]
    noise = np.arange(4_000) % 2 == 0
    assert calibrate(logits, targets, np.ones(4_000), few, background=None, precision=0.5) == Calibration.none(9, 5)
    more = [f"noise {number}" if own else source for number, (source, own) in enumerate(zip(few, noise, strict=True))]
    of_background = np.where(noise, 4, targets % 4)
    assert calibrate(logits, of_background, np.ones(4_000), more, background=4, precision=0.5) == Calibration.none(9, 5)
    assert "9 recordings could tell of them" in Calibration.none(9, 5).notes[0]


def test_answers_that_are_all_right_do_not_make_scores_of_one() -> None:
    targets = np.arange(60) % 4
    logits = 3.0 * np.eye(4)[targets]
    temperature = fit_temperature(logits, targets, np.ones(60))
    assert 0.3 < temperature < 1.0  # the likeliest is the least that there is
    assert softmax(logits / temperature, axis=1).max() < 0.9999


def test_a_cooled_heads_scores_are_those_of_its_divided_logits() -> None:
    rng = np.random.default_rng(0)
    layers = ((rng.normal(size=(6, 4)), rng.normal(size=4)), (rng.normal(size=(4, 3)), rng.normal(size=3)))
    head = Head(tuple((kernel.astype(np.float32), bias.astype(np.float32)) for kernel, bias in layers))
    features = rng.normal(size=(10, 6)).astype(np.float32)
    logits = np.log(head.scores(features))
    np.testing.assert_allclose(cooled(head, 2.5).scores(features), softmax(logits / 2.5, axis=1), rtol=1e-4)


def answers(right: int, wrong: int, *, best: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Answers for class 0 of two, the first `right` of them right, with scores `best`."""
    scores = np.stack([best, 1 - best], axis=1)
    return scores, np.array([0] * right + [1] * wrong)


def recordings(targets: np.ndarray) -> list[str]:
    """One for each answer."""
    return [str(number) for number in range(len(targets))]


def chosen(scores: np.ndarray, targets: np.ndarray, sources: list[str], precision: float) -> tuple[float, ...]:
    """Thresholds by answers that count alike."""
    return choose_thresholds(scores, targets, np.ones(len(targets)), sources, precision)


def test_a_class_is_believed_from_where_enough_of_its_answers_are_right() -> None:
    best = np.linspace(0.99, 0.6, 40)  # the first twenty are right, then ten wrong, then ten of another class
    scores, targets = answers(20, 20, best=best)
    (threshold, other) = chosen(scores, targets, recordings(targets), precision=0.8)
    assert threshold == pytest.approx(best[24])  # 20 of 25
    assert other == 0.0
    believed = best >= threshold
    assert (targets[believed] == 0).mean() >= 0.8


def test_a_class_that_is_right_often_enough_as_it_is_has_no_threshold() -> None:
    scores, targets = answers(36, 4, best=np.linspace(0.99, 0.6, 40))
    assert chosen(scores, targets, recordings(targets), precision=0.9) == (0.0, 0.0)


def test_sounds_of_no_class_raise_a_threshold() -> None:
    best = np.linspace(0.99, 0.6, 40)
    scores, targets = answers(40, 0, best=best)
    assert chosen(scores, targets, recordings(targets), precision=0.8)[0] == 0.0
    targets[20:] = -1
    assert chosen(scores, targets, recordings(targets), precision=0.8)[0] == pytest.approx(best[24])


def test_a_class_that_never_reaches_it_is_believed_where_it_is_best() -> None:
    best = np.linspace(0.99, 0.6, 40)
    scores = np.stack([best, 1 - best], axis=1)
    targets = np.array([0, 1] * 10 + [1] * 20)
    (threshold, _) = chosen(scores, targets, recordings(targets), precision=0.9)
    assert threshold == pytest.approx(best[10])  # 6 of 11, then less


def test_too_few_answers_choose_nothing() -> None:
    scores, targets = answers(0, 9, best=np.full(9, 0.9))
    assert chosen(scores, targets, recordings(targets), precision=0.8) == (0.0, 0.0)


def test_answers_about_one_recording_are_one_witness() -> None:
    scores, targets = answers(20, 20, best=np.linspace(0.99, 0.6, 40))
    nine, ten = ([str(min(number, most - 1)) for number in range(40)] for most in (9, 10))
    assert chosen(scores, targets, nine, precision=0.8)[0] == 0.0
    assert chosen(scores, targets, ten, precision=0.8)[0] == pytest.approx(scores[24, 0])


def test_a_class_that_no_sound_is_of_has_no_threshold() -> None:
    """As the class of a single recording, which a model that is to answer for it cannot have learnt."""
    scores, targets = answers(0, 40, best=np.linspace(0.99, 0.6, 40))
    assert chosen(scores, targets, recordings(targets), precision=0.8)[0] == 0.0


def test_an_answer_counts_as_many_as_it_weighs() -> None:
    best = np.linspace(0.99, 0.6, 40)
    scores, targets = answers(20, 20, best=best)
    weights = np.where(targets == 0, 2.0, 1.0)
    (threshold, _) = choose_thresholds(scores, targets, weights, recordings(targets), precision=0.8)
    assert threshold == pytest.approx(best[29])  # 40 of 50
    logits, truth = sampled(1.0)
    thrice = np.where(np.arange(4_000) < 2_000, 3.0, 1.0)
    rows = np.repeat(np.arange(4_000), thrice.astype(int))
    assert fit_temperature(logits, truth, thrice) == pytest.approx(
        fit_temperature(logits[rows], truth[rows], np.ones(8_000)), rel=1e-6
    )


def test_half_of_what_clips_weigh_is_half_whatever_rounding_makes_of_it() -> None:
    """Clips of three and of seven windows, half of each right."""
    windows = np.array([3, 7] * 10)
    weights = np.repeat(1 / windows, windows)
    right = np.repeat(np.arange(20) % 4 < 2, windows)
    scores = np.stack([np.linspace(0.6, 0.99, weights.size), np.linspace(0.4, 0.01, weights.size)], axis=1)
    sources = np.repeat(np.arange(20).astype(str), windows).tolist()
    assert choose_thresholds(scores, np.where(right, 0, 1), weights, sources, precision=0.5) == (0.0, 0.0)
