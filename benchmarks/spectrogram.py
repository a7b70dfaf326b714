"""Times the project's spectrogram beside librosa's, in turn in one run, and says how far apart their values are.

Run: python -m benchmarks.spectrogram [--rounds N] [AUDIO ...]      (samples/*.wav where no file is named)
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import librosa
import numpy as np
import soundfile

from earshot.audio import FULL_SCALE, SAMPLE_RATE_HZ, fit_segment
from earshot.spectrogram import DEFAULT_PARAMS as PARAMS
from earshot.spectrogram import centred_frames, log_mel, spectrogram

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLES = Path(__file__).parent.parent / "samples"


def by_librosa(pcm: NDArray[np.int16]) -> list[NDArray[np.float32]]:
    """The same channels through librosa: float32 [mels, frames] each, in dB."""
    samples = pcm.astype(np.float32) / np.float32(FULL_SCALE)
    channels = []
    for window in PARAMS.window_samples:
        power = librosa.feature.melspectrogram(
            y=samples,
            sr=PARAMS.sample_rate_hz,
            n_fft=PARAMS.fft_samples(window),
            win_length=window,
            hop_length=PARAMS.hop_samples,
            n_mels=PARAMS.mels,
            pad_mode="constant",
        )
        reference = max(float(power.max()), PARAMS.quietest_reference)
        decibels = librosa.power_to_db(power, ref=reference, amin=PARAMS.floor_power, top_db=None)
        channels.append(np.maximum(decibels, -PARAMS.range_db))
    return channels


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("audio", nargs="*", type=Path, help="16 kHz mono recordings")
    parser.add_argument("--rounds", type=int, default=20, help="times that each recording is measured")
    arguments = parser.parse_args()
    segments = []
    for path in arguments.audio or sorted(SAMPLES.glob("*.wav")):
        samples, rate_hz = soundfile.read(path, dtype="int16")
        if rate_hz != SAMPLE_RATE_HZ or samples.ndim != 1:
            parser.error(f"{path} is not 16 kHz mono")
        segments.append(fit_segment(samples))

    ours: list[float] = []
    theirs: list[float] = []
    apart_db = 0.0
    for pcm in segments:
        reference = by_librosa(pcm)
        for window, channel in zip(PARAMS.window_samples, reference, strict=True):
            apart_db = max(apart_db, float(np.abs(log_mel(centred_frames(pcm), window) - channel).max()))
        for _ in range(arguments.rounds):
            started = time.perf_counter()
            spectrogram(pcm)
            between = time.perf_counter()
            by_librosa(pcm)
            ours.append(between - started)
            theirs.append(time.perf_counter() - between)
    ratios = [there / here for here, there in zip(ours, theirs, strict=True)]
    print(f"{len(segments)} segments of 3 s, {PARAMS.channels} channels, {arguments.rounds} rounds, medians")
    print(f"earshot  {statistics.median(ours) * 1e3:7.2f} ms  (with rounding to uint8)")
    print(f"librosa  {statistics.median(theirs) * 1e3:7.2f} ms")
    print(f"ratio    {statistics.median(ratios):7.2f}")
    print(f"apart    {apart_db:.1e} dB at most")


if __name__ == "__main__":
    main()
