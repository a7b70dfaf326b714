from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.spectrogram import by_librosa
from earshot.audio import SEGMENT_SAMPLES, fit_segment
from earshot.spectrogram import DEFAULT_PARAMS, SpectrogramParams, centred_sound, log_mel, spectrogram
from local.settings import SAMPLES

CLOSE_DB = 1e-3


def recordings() -> list[Path]:
    """The samples, and a hundred clips of the data set where it is at hand."""
    paths = sorted(SAMPLES.glob("*.wav"))
    if folder := os.environ.get("EARSHOT_URBANSOUND8K"):
        paths += sorted(Path(folder).glob("audio/*/*"))[::21][:100]
    return paths


def test_it_is_librosas_on_real_clips() -> None:
    for path in recordings():
        pcm = fit_segment(soundfile.read(path, dtype="int16")[0])
        for window, reference in zip(DEFAULT_PARAMS.window_samples, by_librosa(pcm), strict=True):
            assert np.abs(log_mel(centred_sound(pcm), window) - reference).max() <= CLOSE_DB, path.name


def test_an_image_has_the_peak_at_255_and_the_lowest_band_first() -> None:
    tone = (8_000 * np.sin(2 * np.pi * 300 * np.arange(SEGMENT_SAMPLES) / 16_000)).astype(np.int16)
    image = spectrogram(tone)
    assert image.shape == (128, 301, 3)
    assert image.dtype == np.uint8
    assert image.max() == 255
    assert image.mean(axis=(1, 2)).argmax() < 20


def test_silence_is_black_and_a_hiss_of_one_bit_is_not_amplified_to_the_full_range() -> None:
    assert spectrogram(np.zeros(SEGMENT_SAMPLES, np.int16)).max() == 0
    hiss = np.random.default_rng(0).integers(0, 2, SEGMENT_SAMPLES).astype(np.int16)
    assert spectrogram(hiss).max() < 255


@pytest.mark.parametrize("samples", [0, 1, 159, 16_000, 64_000])
def test_any_length_has_a_frame_every_ten_milliseconds(samples: int) -> None:
    assert spectrogram(np.ones(samples, np.int16)).shape == (128, 1 + samples // 160, 3)


def test_parameters_survive_json_and_unknown_ones_are_refused() -> None:
    params = SpectrogramParams(mels=64, window_samples=(400,))
    assert SpectrogramParams.from_json(params.to_json()) == params
    with pytest.raises(TypeError, match="colour"):
        SpectrogramParams.from_json({**params.to_json(), "colour": "viridis"})
