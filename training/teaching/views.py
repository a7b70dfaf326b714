"""Sounds as they might be heard somewhere else: moved, faster or slower, brighter or duller, two at once.

A teacher is asked about each as it is, so it may be anything: what counts is that there are many, and that they are
like what a microphone hears (sounds between others: Tokozume, Ushiku and Harada 2018).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import soxr

from earshot.audio import SAMPLE_RATE_HZ, SEGMENT_SAMPLES, pcm16

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from training.teaching.pieces import Pieces

_QUIETEST_RMS = 1e-4


@dataclass(frozen=True, slots=True)
class Mixing:
    """How far views go from the sounds that they are made of."""

    octaves: float = 0.35
    """By which a sound may be higher and faster, or lower and slower."""
    paced: float = 0.5
    """How often it is."""
    tilted: float = 0.3
    """How often high frequencies are lifted or lowered, as another microphone would."""
    repeated: float = 0.4
    """How often a short sound goes on from its beginning again, instead of silence around it."""
    both: float = 0.55
    """How often another sound is beside it."""
    noisy: float = 0.15
    """How often there is white noise instead."""
    below_db: tuple[float, float] = (-5.0, 20.0)
    """By which the other sound lies below it."""
    noise_below_db: tuple[float, float] = (5.0, 35.0)
    """By which the noise does."""


def make_view(
    pieces: Pieces, kinds: Sequence[NDArray[np.int64]], rng: np.random.Generator, mixing: Mixing
) -> NDArray[np.int16]:
    """A view, int16 [SEGMENT_SAMPLES], of a piece or of two, as loud as can be.

    A teacher hears how loud a sound is; whoever learns from it does not, as each spectrogram is scaled to its peak.

    kinds: numbers of the pieces of each kind of recordings; each kind is heard as often, however many pieces it has.
    """

    def drawn() -> NDArray[np.float32]:
        own = kinds[int(rng.integers(len(kinds)))]
        return _taken(pieces[int(rng.choice(own))], rng, mixing)

    sound = drawn()
    kind = rng.random()
    if kind < mixing.both:
        sound = sound + _gain(-rng.uniform(*mixing.below_db)) * drawn()
    elif kind < mixing.both + mixing.noisy:
        noise = rng.standard_normal(SEGMENT_SAMPLES, dtype=np.float32)
        sound = sound + _gain(-rng.uniform(*mixing.noise_below_db)) * noise
    return as_loud_as_can_be(sound)


def as_loud_as_can_be(sound: NDArray[np.float32]) -> NDArray[np.int16]:
    """`sound` float32 [n], of any scale, with its peak at full scale; silence stays silence."""
    return pcm16(sound / max(float(np.abs(sound).max()), 1e-6))


def _taken(piece: NDArray[np.int16], rng: np.random.Generator, mixing: Mixing) -> NDArray[np.float32]:
    """A part of a piece as a segment of RMS 1, float32 [SEGMENT_SAMPLES]."""
    pace = 2 ** rng.uniform(-mixing.octaves, mixing.octaves) if rng.random() < mixing.paced else 1.0
    most = int(SEGMENT_SAMPLES * pace)
    start = int(rng.integers(max(piece.size - most, 0) + 1))
    sound = piece[start : start + most].astype(np.float32)
    if pace != 1.0:
        sound = soxr.resample(sound, SAMPLE_RATE_HZ * pace, SAMPLE_RATE_HZ, quality="LQ")
    sound = sound[:SEGMENT_SAMPLES]
    if sound.size < SEGMENT_SAMPLES:
        if rng.random() < mixing.repeated:
            sound = np.resize(sound, SEGMENT_SAMPLES)
        else:
            before = int(rng.integers(SEGMENT_SAMPLES - sound.size + 1))
            sound = np.pad(sound, (before, SEGMENT_SAMPLES - sound.size - before))
    if rng.random() < mixing.tilted:
        sound[1:] += np.float32(rng.uniform(-0.6, 0.6)) * sound[:-1]
    return np.asarray(sound / max(float(np.sqrt(np.mean(sound**2))), _QUIETEST_RMS), dtype=np.float32)


def _gain(level_db: float) -> np.float32:
    return np.float32(10 ** (level_db / 20))
