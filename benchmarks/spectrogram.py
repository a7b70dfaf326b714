"""Times the project's spectrogram beside librosa's, in turn in one run, and says how far apart their values are.

A turn is all segments one way, then all of them the other way: in a worker and in training one segment follows another
too. Segment by segment, each way would also pay for memory that the other has just given back to the system, and for
BLAS threads of the other that still spin.

Run: python -m benchmarks.spectrogram [--rounds N] [AUDIO ...]      (samples/*.wav where no file is named)
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import librosa
import numpy as np
import soundfile

from earshot.audio import FULL_SCALE, SAMPLE_RATE_HZ, fit_segment
from earshot.spectrogram import DEFAULT_PARAMS as PARAMS
from earshot.spectrogram import centred_sound, log_mel, spectrogram

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Work = Callable[[NDArray[np.int16]], Any]

SAMPLES = Path(__file__).parent.parent / "samples"


def window_by_librosa(pcm: NDArray[np.int16], window: int) -> NDArray[np.float32]:
    """One channel through librosa: float32 [mels, frames], in dB."""
    power = librosa.feature.melspectrogram(
        y=pcm.astype(np.float32) / np.float32(FULL_SCALE),
        sr=PARAMS.sample_rate_hz,
        n_fft=PARAMS.fft_samples(window),
        win_length=window,
        hop_length=PARAMS.hop_samples,
        n_mels=PARAMS.mels,
        pad_mode="constant",
    )
    reference = max(float(power.max()), PARAMS.quietest_reference)
    decibels = librosa.power_to_db(power, ref=reference, amin=PARAMS.floor_power, top_db=None)
    return np.asarray(np.maximum(decibels, -PARAMS.range_db), dtype=np.float32)


def by_librosa(pcm: NDArray[np.int16]) -> list[NDArray[np.float32]]:
    """All channels through librosa."""
    return [window_by_librosa(pcm, window) for window in PARAMS.window_samples]


class Pair:
    """The same work done both ways, timed in turn."""

    def __init__(self, name: str, ours: Work, theirs: Work) -> None:
        self.name = name
        self._works = (ours, theirs)
        self._took_ms: tuple[list[float], list[float]] = ([], [])

    def run(self, segments: list[NDArray[np.int16]]) -> None:
        """Do all `segments` one way, then the other."""
        for work, took_ms in zip(self._works, self._took_ms, strict=True):
            started = time.perf_counter()
            for pcm in segments:
                work(pcm)
            took_ms.append((time.perf_counter() - started) * 1e3 / len(segments))

    def __str__(self) -> str:
        ours, theirs = (statistics.median(took_ms) for took_ms in self._took_ms)
        ratio = statistics.median(there / here for here, there in zip(*self._took_ms, strict=True))
        return f"{self.name:22} earshot {ours:6.2f} ms   librosa {theirs:6.2f} ms   ratio {ratio:5.2f}"


def _window_by_earshot(pcm: NDArray[np.int16], window: int) -> NDArray[np.float32]:
    return log_mel(centred_sound(pcm), window)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("audio", nargs="*", type=Path, help="16 kHz mono recordings")
    parser.add_argument("--rounds", type=int, default=20, help="turns that are measured")
    arguments = parser.parse_args()
    segments = []
    for path in arguments.audio or sorted(SAMPLES.glob("*.wav")):
        samples, rate_hz = soundfile.read(path, dtype="int16")
        if rate_hz != SAMPLE_RATE_HZ or samples.ndim != 1:
            parser.error(f"{path} is not 16 kHz mono")
        segments.append(fit_segment(samples))

    pairs = [Pair("image, rounded to uint8", spectrogram, by_librosa)]
    for window in PARAMS.window_samples:
        name = f"{1000 * window // PARAMS.sample_rate_hz} ms windows alone"
        ours = partial(_window_by_earshot, window=window)
        pairs.append(Pair(name, ours, partial(window_by_librosa, window=window)))
    # This also compiles and caches what the first call does, before anything is timed.
    apart_db = max(
        float(np.abs(_window_by_earshot(pcm, window) - window_by_librosa(pcm, window)).max())
        for pcm in segments
        for window in PARAMS.window_samples
    )
    for pair in pairs:
        for _ in range(arguments.rounds):
            pair.run(segments)
    print(
        f"{len(segments)} segments of 3 s, {PARAMS.channels} channels, ms a segment, {arguments.rounds} turns, medians"
    )
    for pair in pairs:
        print(pair)
    print(f"apart    {apart_db:.1e} dB at most")


if __name__ == "__main__":
    main()
