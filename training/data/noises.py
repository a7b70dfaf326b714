"""Noises that are made, not recorded: background for a model that must not take a hiss or a hum for a class.

Hiss of any colour between white and brown, gusts of it, the hum of the mains, and near silence. Each fold has a part of
every parameter's range to itself, so noises of a fold that is held out are unlike all that are learnt: they have other
seeds, and other colours, frequencies and levels. Sweeps and beeps are not among them: sirens and horns are that.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from earshot.audio import SAMPLE_RATE_HZ
from earshot.labels import UNKNOWN
from serving.wholefile import whole_file
from training.data.background import GENERATED
from training.data.clips import Clip

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

NOISE_S = 30
"""Seconds of each noise: ten segments."""
_SAMPLES = NOISE_S * SAMPLE_RATE_HZ
_MUTED = 10 * SAMPLE_RATE_HZ
_HARMONICS = 20


class Draw:
    """Parameters of one noise: random, from a part of each range."""

    def __init__(self, rng: np.random.Generator, part: int, parts: int) -> None:
        """Draw from `part` of `parts`, counted from 0."""
        self.rng = rng
        self._part, self._parts = part, parts

    def between(self, low: float, high: float) -> float:
        """A value from this part of the range; which one it is goes on with each parameter, so no fold is all low."""
        share = (self._part + float(self.rng.random())) / self._parts
        self._part = (self._part + 1) % self._parts
        return low + share * (high - low)


def hiss(draw: Draw) -> NDArray[np.float64]:
    """White, pink or brown noise, or what lies between."""
    return _levelled(coloured(draw.rng, draw.between(0.0, 2.2)), draw.between(-60.0, -12.0))


def gusts(draw: Draw) -> NDArray[np.float64]:
    """Noise that swells and fades, as of wind or traffic."""
    noise = coloured(draw.rng, draw.between(0.5, 2.2))
    knots = round(NOISE_S * draw.between(0.2, 3.0))
    swell_db = np.interp(np.arange(_SAMPLES), np.linspace(0, _SAMPLES, knots), 8 * draw.rng.normal(size=knots))
    return _levelled(noise * 10 ** (swell_db / 20), draw.between(-50.0, -12.0))


def hum(draw: Draw) -> NDArray[np.float64]:
    """The mains in some device, with its harmonics, over a little noise."""
    phase = 2 * np.pi * draw.between(47.0, 63.0) * np.arange(_SAMPLES) / SAMPLE_RATE_HZ
    fall = draw.between(0.5, 2.5)
    loud = draw.rng.random(_HARMONICS) * np.arange(1, _HARMONICS + 1) ** -fall
    tones = sum(share * np.sin((number + 1) * phase) for number, share in enumerate(loud))
    noise = coloured(draw.rng, 1.0) * 10 ** (draw.between(-50.0, -15.0) / 20)
    return _levelled(tones / np.std(tones) + noise, draw.between(-60.0, -12.0))


def silence(draw: Draw) -> NDArray[np.float64]:
    """A quiet room, hardly more than a microphone's own noise; at last nothing, as from a device that is muted."""
    room = _levelled(coloured(draw.rng, draw.between(0.0, 1.0)), draw.between(-82.0, -62.0))
    room[-_MUTED:] = 0
    return room


KINDS: tuple[Callable[[Draw], NDArray[np.float64]], ...] = (hiss, gusts, hum, silence)
"""In the order in which they are made; each gives float64 [samples], -1 to 1 at the most."""


def coloured(rng: np.random.Generator, slope: float) -> NDArray[np.float64]:
    """Noise whose power falls with frequency to this power: 0 is white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(rng.normal(size=_SAMPLES))
    frequency = np.fft.rfftfreq(_SAMPLES, 1 / SAMPLE_RATE_HZ)
    spectrum *= np.maximum(frequency, 20.0) ** (-slope / 2)  # below what is heard it falls no further
    noise = np.fft.irfft(spectrum, _SAMPLES)
    return np.asarray(noise / noise.std())


def make_noises(count: int, folds: Sequence[int], seed: int, folder: Path) -> list[Clip]:
    """Write `count` noises into `folder`, and return them as clips of no class.

    Those that are there in full length are left. They are dealt into `folds` and to `KINDS`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    clips = []
    for number in range(count):
        place, kind = number // len(KINDS) % len(folds), KINDS[number % len(KINDS)]
        # What decides its sound is in its name: runs at once may write the same file, and none another's.
        name = f"{kind.__name__}-{seed}-{number}-{place + 1}-of-{len(folds)}"
        path = folder / f"{name}.wav"
        if not _in_full_length(path):
            noise = kind(Draw(np.random.default_rng([seed, number]), place, len(folds)))
            sound = io.BytesIO()  # to a full disk soundfile fails with an AssertionError
            soundfile.write(sound, noise, SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
            with whole_file(path) as file:
                file.write(sound.getvalue())
        clips.append(Clip(path, UNKNOWN, folds[place], f"{GENERATED}{name}"))
    return clips


def _in_full_length(path: Path) -> bool:
    try:
        return bool(soundfile.info(path).frames == _SAMPLES)
    except soundfile.LibsndfileError:
        return False


def _levelled(sound: NDArray[np.float64], level_dbfs: float) -> NDArray[np.float64]:
    return np.asarray(10 ** (level_dbfs / 20) * sound / sound.std()).clip(-1, 1)
