"""Augmentation of spectrogram images: a clip is never seen the same way twice, and so is not learnt by heart.

Everything works on whole batches, and all chance comes from the generator that is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from earshot.spectrogram import DEFAULT_PARAMS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from earshot.spectrogram import SpectrogramParams

_TILT_KNOTS = 5


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How much of what; all zero is none."""

    shift: float = 0.5
    """Time shift: share of the frames by which a sound may move to either side, silence coming in."""
    pitch_bands: int = 3
    """Mel bands by which it may move up or down."""
    tilt: float = 0.04
    """Standard deviation of a smooth curve over frequency that is added, as another microphone or room would: a share
    of the image's range."""
    masks: int = 2
    """SpecAugment (Park et al. 2019): stripes of mel bands, and as many of frames, that are silenced."""
    mask_bands: float = 0.125
    """Widest stripe of mel bands, as a share of all."""
    mask_frames: float = 0.17
    """Widest stripe of frames, as a share of all."""
    noise: float = 0.0
    """How often a sound gets another beside it, which its target does not tell of."""
    noise_db: tuple[float, float] = (5.0, 30.0)
    """Decibels by which that one's peak lies below the sound's own: the least and the most."""
    mixup: float = 0.5
    """mixup (Zhang et al. 2018): how often a sound is mixed with another of its batch, image and targets alike."""
    mixup_alpha: float = 0.4
    """Of the beta distribution that the share of the other sound comes from."""


PLAIN = Augmentation(shift=0, pitch_bands=0, tilt=0, masks=0, mixup=0)
"""None: clips are heard as they are."""


def augment(
    images: NDArray[np.uint8],
    targets: NDArray[np.float32],
    how: Augmentation,
    rng: np.random.Generator,
    noises: NDArray[np.uint8] | None = None,
    params: SpectrogramParams = DEFAULT_PARAMS,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """`images` uint8 [batch, mels, frames, channels] as float32 of 0 to 255, and their `targets` [batch, classes].

    Low mel bands come first, and 0 is silence, as `earshot.spectrogram` has it. noises: images like them, of which each
    sound may get its own beside it.
    """
    count: int = len(images)
    mels, frames = images.shape[1:3]
    sound = images.astype(np.float32)
    furthest = round(how.shift * frames)
    sound = _moved(sound, 2, rng.integers(-furthest, furthest + 1, size=count))
    sound = _moved(sound, 1, rng.integers(-how.pitch_bands, how.pitch_bands + 1, size=count))
    knots = rng.normal(0.0, 255 * how.tilt, (count, _TILT_KNOTS)).astype(np.float32)
    tilted = np.clip(sound + (knots @ _hats(mels))[:, :, None, None], 0, 255)
    sound = np.where(sound > 0, tilted, sound)
    if noises is not None:
        noisy = np.flatnonzero(rng.random(count) < how.noise)
        below_db = rng.uniform(*how.noise_db, count).astype(np.float32)
        sound[noisy] = with_noise(sound[noisy], noises[noisy], below_db[noisy], params.range_db)
    if how.mixup:
        drawn = rng.beta(how.mixup_alpha, how.mixup_alpha, count)
        share = np.where(rng.random(count) < how.mixup, np.minimum(drawn, 1 - drawn), 0).astype(np.float32)
        other = rng.permutation(count)
        sound, targets = (_blend(values, values[other], share) for values in (sound, targets))
    for _ in range(how.masks):
        sound *= _stripes(count, mels, how.mask_bands, rng)[:, :, None, None]
        sound *= _stripes(count, frames, how.mask_frames, rng)[:, None, :, None]
    return sound, targets


def with_noise(
    sound: NDArray[np.float32], noise: NDArray[np.uint8], below_db: NDArray[np.float32], range_db: float
) -> NDArray[np.float32]:
    """Images of each `sound` and `noise` together, the noise's peak `below_db` [batch] decibels below the sound's.

    Two sounds from two sources add up in power. Then each channel is scaled to its new peak, as a spectrogram is: one
    whose peak was below the reference stays where it is, as long as the noise does not lift it above.
    """
    of_one_db = np.float32(255 / range_db)
    power = [
        np.where(image > 0, 10 ** ((image / of_one_db - np.float32(range_db)) / 10), np.float32(0))
        for image in (sound, noise.astype(np.float32))
    ]
    both = power[0] + 10 ** (-below_db[:, None, None, None] / 10) * power[1]
    level_db = 10 * np.log10(np.maximum(both, np.float32(10 ** (-range_db / 10))))
    level_db -= np.maximum(level_db.max(axis=(1, 2), keepdims=True), 0)
    return np.asarray(((level_db + np.float32(range_db)) * of_one_db).clip(0, 255), dtype=np.float32)


def _moved(sound: NDArray[np.float32], axis: int, by: NDArray[Any]) -> NDArray[np.float32]:
    """Each sound moved along `axis` by its own number of steps, silence coming in."""
    moved = np.zeros_like(sound)
    size = sound.shape[axis]
    for one, other, step in zip(np.moveaxis(sound, axis, 1), np.moveaxis(moved, axis, 1), by.tolist(), strict=True):
        to, came_from = (slice(max(way, 0), size + min(way, 0)) for way in (step, -step))
        other[to] = one[came_from]
    return moved


def _hats(mels: int) -> NDArray[np.float32]:
    """[knots, mels]: what each knot adds to each band, linear between the knots."""
    knots = np.linspace(0, mels - 1, _TILT_KNOTS)
    bands = np.arange(mels)
    return np.stack([np.interp(bands, knots, row) for row in np.eye(_TILT_KNOTS)]).astype(np.float32)


def _blend(one: NDArray[np.float32], other: NDArray[np.float32], share: NDArray[np.float32]) -> NDArray[np.float32]:
    share = share.reshape(-1, *[1] * (one.ndim - 1))
    return np.asarray((1 - share) * one + share * other, dtype=np.float32)


def _stripes(count: int, size: int, widest: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """[count, size]: 0 within one stripe of up to `widest` of the size, 1 outside."""
    width = rng.integers(0, round(widest * size) + 1, count)
    start = rng.integers(0, size - width + 1)
    place = np.arange(size)
    inside = (place >= start[:, None]) & (place < (start + width)[:, None])
    return np.where(inside, np.float32(0), np.float32(1))
