from __future__ import annotations

import numpy as np
import pytest

from earshot.audio import SAMPLE_RATE_HZ, SEGMENT_SAMPLES
from earshot.spectrogram import DEFAULT_PARAMS, spectrogram
from training.finetuning.augment import PLAIN, Augmentation, augment, with_noise

SHAPE = (16, 32, 40, 3)
ONE_HOT = np.eye(16, dtype=np.float32)


def images(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, SHAPE, dtype=np.uint8)


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def test_with_everything_at_zero_nothing_changes() -> None:
    before = images()
    sound, targets = augment(before, ONE_HOT, PLAIN, rng())
    np.testing.assert_array_equal(sound, before)
    np.testing.assert_array_equal(targets, np.eye(16))


def test_the_same_chance_gives_the_same_batch_and_another_another() -> None:
    one, again = (augment(images(), ONE_HOT, Augmentation(), rng()) for _ in range(2))
    np.testing.assert_array_equal(one[0], again[0])
    np.testing.assert_array_equal(one[1], again[1])
    other, _ = augment(images(), ONE_HOT, Augmentation(), np.random.default_rng(2))
    assert not np.array_equal(one[0], other)


def test_all_values_stay_those_of_an_image() -> None:
    sound, _ = augment(images(), ONE_HOT, Augmentation(tilt=0.5), rng())
    assert sound.dtype == np.float32
    assert sound.min() >= 0
    assert sound.max() <= 255


@pytest.mark.parametrize(("how", "axis"), [(Augmentation(shift=0.5), 2), (Augmentation(shift=0, pitch_bands=9), 1)])
def test_a_moved_sound_is_the_same_sound_with_silence_where_it_was_not(how: Augmentation, axis: int) -> None:
    only = Augmentation(shift=how.shift, pitch_bands=how.pitch_bands * (axis == 1), tilt=0, masks=0, mixup=0)
    before = images()
    after, _ = augment(before, ONE_HOT, only, rng())
    moves = set()
    for one, moved in zip(before, after, strict=True):
        heard = np.flatnonzero(moved.any(axis=tuple(number for number in range(3) if number != axis - 1)))
        silent = SHAPE[axis] - len(heard)
        step = silent if heard[0] else -silent
        moves.add(int(step))
        kept = np.roll(one, step, axis - 1).take(heard, axis - 1)
        np.testing.assert_array_equal(moved.take(heard, axis - 1), kept)
    assert len(moves) > 5


def test_a_tilt_is_smooth_over_frequency_and_leaves_silence_silent() -> None:
    before = np.full(SHAPE, 128, dtype=np.uint8)
    before[:, :, :10] = 0
    after, _ = augment(before, ONE_HOT, Augmentation(shift=0, pitch_bands=0, tilt=0.1, masks=0, mixup=0), rng())
    assert not after[:, :, :10].any()
    curve = after[:, :, 20, 0]
    assert curve.std() > 1
    assert np.abs(np.diff(curve, axis=1)).max() < 255 * 0.1
    np.testing.assert_array_equal(after[:, :, 10:], np.repeat(np.repeat(curve[..., None, None], 30, 2), 3, 3))


def test_masks_silence_no_more_than_they_may() -> None:
    how = Augmentation(shift=0, pitch_bands=0, tilt=0, masks=1, mask_bands=0.25, mask_frames=0.1, mixup=0)
    sound, _ = augment(images(), ONE_HOT, how, rng())
    bands = [32 - np.count_nonzero(one.any(axis=(1, 2))) for one in sound]
    frames = [40 - np.count_nonzero(one.any(axis=(0, 2))) for one in sound]
    assert 0 < max(bands) <= 8
    assert 0 < max(frames) <= 4


def test_images_and_targets_are_mixed_in_the_same_shares() -> None:
    how = Augmentation(shift=0, pitch_bands=0, tilt=0, masks=0, mixup=0.5)
    sound, targets = augment(images(), ONE_HOT, how, rng())
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(sound, np.tensordot(targets, images().astype(np.float32), 1), rtol=1e-3)
    assert (np.diag(targets) >= 0.5).all()  # the sound itself is the louder one
    assert 0 < np.count_nonzero(np.diag(targets) < 0.999) < 16


def heard(wave: np.ndarray) -> np.ndarray:
    return spectrogram(np.rint(wave * 32767).astype(np.int16))


@pytest.mark.parametrize("below_db", [0.0, 6.0, 20.0])
def test_two_images_together_are_the_image_of_both_sounds_together(below_db: float) -> None:
    """Two tones of as high a peak in every channel, and the noise's of another level: what is heard of their sum."""
    time_s = np.arange(SEGMENT_SAMPLES) / SAMPLE_RATE_HZ
    one, other = (0.2 * np.sin(2 * np.pi * hz * time_s) for hz in (1_000.0, 1_060.0))
    one[: SEGMENT_SAMPLES // 2] = 0
    below = np.full(1, below_db, np.float32)
    both = with_noise(heard(one)[None].astype(np.float32), heard(other)[None], below, DEFAULT_PARAMS.range_db)[0]
    truth = heard(one + 10 ** (-below_db / 20) * other).astype(np.float32)
    quiet, loud = np.s_[:, 10:140], np.s_[:, 170:290]
    one_db = 255 / DEFAULT_PARAMS.range_db
    assert np.abs(both[quiet] - truth[quiet]).mean() < one_db
    assert np.abs(both[loud] - truth[loud]).mean() < 3 * one_db  # they beat where both are, which is no noise
    assert both.max() == pytest.approx(255, abs=0.01)


def test_equal_levels_add_up_to_three_decibels_and_the_peak_stays_the_peak() -> None:
    one_db = 255 / 70
    sound, noise = np.zeros((2, 1, 2, 2, 1), np.uint8)
    sound[0, 0, :, 0], noise[0, :, 0, 0] = 255, 255  # together, sound alone, noise alone, nothing
    level = np.zeros(1, np.float32)
    both = with_noise(sound.astype(np.float32), noise, level, 70.0)
    np.testing.assert_allclose(both.ravel(), [255, 255 - 3.01 * one_db, 255 - 3.01 * one_db, 0], atol=0.01)
    quiet = with_noise(sound.astype(np.float32) * np.float32(100 / 255), noise // 255 * 100, level, 70.0)
    np.testing.assert_allclose(quiet.ravel(), [100 + 3.01 * one_db, 100, 100, 0], atol=0.01)  # nothing is amplified


def test_silence_beside_a_sound_and_a_sound_beside_silence_change_nothing_but_the_level() -> None:
    sound = images().astype(np.float32)
    nothing = np.zeros(SHAPE, np.uint8)
    below = np.full(SHAPE[0], 7.0, np.float32)
    np.testing.assert_allclose(with_noise(sound, nothing, below, 70.0), sound, atol=0.01)
    lowered = with_noise(nothing.astype(np.float32), images(), below, 70.0)
    np.testing.assert_allclose(lowered, np.maximum(images() - 7.0 * 255 / 70, 0), atol=0.01)
    assert not with_noise(nothing.astype(np.float32), nothing, below, 70.0).any()


def test_as_many_sounds_as_asked_for_have_another_beside_them_and_targets_stay() -> None:
    how = Augmentation(shift=0, pitch_bands=0, tilt=0, masks=0, mixup=0, noise=0.5)
    before = images()
    sound, targets = augment(before, ONE_HOT, how, rng(), images(seed=2))
    np.testing.assert_array_equal(targets, ONE_HOT)
    changed = [not np.allclose(one, other, atol=0.01) for one, other in zip(sound, before, strict=True)]
    assert 3 < sum(changed) < 13
    assert sound.min() >= 0
    assert sound.max() <= 255.01
