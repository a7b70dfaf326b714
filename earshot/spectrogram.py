"""The one definition of the log-mel spectrogram, shared by training, the processors and the graph in the SavedModel.

The reference is librosa: `melspectrogram` (Slaney mel filters, Hann window, centred frames, zero padding) and
`power_to_db`. This module computes the same from cached filters, and faster; `benchmarks/spectrogram.py`
measures both.

An image has one channel a window length: the same sound with short windows shows when things happen, with long ones
at which frequency.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from earshot.audio import FULL_SCALE, SAMPLE_RATE_HZ, SEGMENT_SAMPLES

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_array

BLOCK_SAMPLES = 1 << 17
"""Samples of windowed frames, which overlap, that go through the FFT together.

Fewer, and the calls cost more than their work; more, and the temporaries, 512 KB each, are given back to the system
each time, and the page faults when they are taken again cost more than the FFT.
"""


@dataclass(frozen=True, slots=True)
class SpectrogramParams:
    """Everything that decides a spectrogram's values; saved with each model (`spectrogram.json`)."""

    sample_rate_hz: int = SAMPLE_RATE_HZ
    """Hertz."""
    window_samples: tuple[int, ...] = (400, 800, 1600)
    """Length of the Hann window of each channel: 25, 50 and 100 ms."""
    hop_samples: int = 160
    """Step between frames: 10 ms."""
    mels: int = 128
    """Mel bands, Slaney scale and norm, 0 Hz to half the sample rate."""
    range_db: float = 70.0
    """Decibels below the reference that are kept; the image's 0 is that far down, its 255 is the reference."""
    floor_power: float = 1e-12
    """Least mel power, before the logarithm."""
    quietest_reference: float = 1e-4
    """Least reference power: a segment whose peak is below it is not amplified, so silence is black, not noise."""

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return len(self.window_samples)

    def frames(self, samples: int = SEGMENT_SAMPLES) -> int:
        """Frames of `samples` samples of sound."""
        return 1 + samples // self.hop_samples

    def fft_samples(self, window: int) -> int:
        """FFT length for a window: the window, zero-padded where it is so short that mel bands fall between bins."""
        return max(512, window)

    @property
    def longest_fft_samples(self) -> int:
        """FFT length of the longest window."""
        return max(self.fft_samples(window) for window in self.window_samples)

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `from_json` takes back."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Parameters from `to_json`'s dictionary; TypeError where a key is unknown."""
        return cls(**{**values, "window_samples": tuple(values["window_samples"])})


DEFAULT_PARAMS = SpectrogramParams()


@lru_cache(maxsize=8)
def mel_filters(params: SpectrogramParams, fft_samples: int) -> NDArray[np.float32]:
    """Slaney's mel filter bank, float32 [mels, fft_samples / 2 + 1]."""
    from librosa.filters import mel  # slow to import, and an agent never needs it

    bank = mel(sr=params.sample_rate_hz, n_fft=fft_samples, n_mels=params.mels)
    return np.asarray(bank, dtype=np.float32)


@lru_cache(maxsize=8)
def _sparse_mel_filters(params: SpectrogramParams, fft_samples: int) -> csr_array:
    """`mel_filters` without its zeros, which are 98 in 100.

    It is faster than the full matrix, and stays in this thread: BLAS spreads the product of full matrices over all
    cores, where it waited up to 70 ms for cores that had other work.
    """
    from scipy.sparse import csr_array

    return csr_array(mel_filters(params, fft_samples))


@lru_cache(maxsize=8)
def hann_window(window: int, fft_samples: int) -> NDArray[np.float32]:
    """Periodic Hann window centred in `fft_samples` samples, float32 [fft_samples]."""
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(window) / window)
    before = (fft_samples - window) // 2
    return np.pad(hann, (before, fft_samples - window - before)).astype(np.float32)


def centred_sound(pcm: NDArray[np.int16], params: SpectrogramParams = DEFAULT_PARAMS) -> NDArray[np.float32]:
    """`pcm` (int16 [samples]) as float32 [samples + longest FFT], -1 to 1, with as much silence before it as after it.

    So frames that are centred on its first and last samples are whole, whichever their length.
    """
    longest = params.longest_fft_samples
    sound = np.zeros(pcm.size + longest, dtype=np.float32)
    np.multiply(pcm, np.float32(1.0 / FULL_SCALE), out=sound[longest // 2 : longest // 2 + pcm.size])
    return sound


def mel_power(
    sound: NDArray[np.float32], window: int, params: SpectrogramParams = DEFAULT_PARAMS
) -> NDArray[np.float32]:
    """Mel power of `centred_sound` through one window length: float32 [mels, frames]."""
    import scipy.fft  # numpy's own FFT is five times slower in float32

    from earshot.kernels import LANES, power_by_bin, windowed_frames

    fft_samples = params.fft_samples(window)
    hann = hann_window(window, fft_samples)
    filters = _sparse_mel_filters(params, fft_samples)
    before = params.longest_fft_samples // 2 - fft_samples // 2
    mel = np.empty((params.mels, params.frames(sound.size - params.longest_fft_samples)), dtype=np.float32)
    block = np.empty((max(BLOCK_SAMPLES // fft_samples // LANES, 1) * LANES, fft_samples), dtype=np.float32)
    for start in range(0, mel.shape[1], len(block)):
        some = mel[:, start : start + len(block)]
        frames = some.shape[1]
        rows = math.ceil(frames / LANES) * LANES
        windowed_frames(sound[before + start * params.hop_samples :], params.hop_samples, hann, block[:frames])
        block[frames:rows] = 0.0
        spectra = scipy.fft.rfft(block[:rows], overwrite_x=True).view(np.float32)
        some[:] = (filters @ power_by_bin(spectra))[:, :frames]
    return mel


def log_mel(sound: NDArray[np.float32], window: int, params: SpectrogramParams = DEFAULT_PARAMS) -> NDArray[np.float32]:
    """Log-mel spectrogram of `centred_sound` in dB below its peak: float32 [mels, frames], -range_db to 0."""
    values = mel_power(sound, window, params)
    reference = max(float(values.max()), params.quietest_reference)
    values /= np.float32(reference)
    least = np.float32(max(params.floor_power / reference, 10.0 ** (-params.range_db / 10.0)))
    np.maximum(values, least, out=values)
    np.log(values, out=values)  # vectorised in numpy, which log10 is not
    values *= np.float32(10.0 / math.log(10.0))
    return values


def spectrogram(pcm: NDArray[np.int16], params: SpectrogramParams = DEFAULT_PARAMS) -> NDArray[np.uint8]:
    """The model's input for `pcm` (int16 [samples]): uint8 [mels, frames, channels], 0 is -range_db, 255 is the peak.

    Band 0, the lowest frequency, is row 0. Values are rounded half to even, here and in the graph.
    """
    sound = centred_sound(pcm, params)
    image = np.empty((params.mels, params.frames(pcm.size), params.channels), dtype=np.uint8)
    for channel, window in enumerate(params.window_samples):
        values = log_mel(sound, window, params)
        values += np.float32(params.range_db)
        values *= np.float32(255.0 / params.range_db)
        image[:, :, channel] = np.rint(values, out=values)
    return image
