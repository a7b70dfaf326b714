from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from producers.frames import FRAME_SAMPLES
from producers.recordings import RecordingSource
from tests.training.sounds import tone
from training.data.clips import ClipUnreadable, load_clip

if TYPE_CHECKING:
    from pathlib import Path


def test_a_clip_is_what_an_agent_hears_of_it(tmp_path: Path) -> None:
    path = tone(tmp_path / "1.wav", seconds=2.0, rate_hz=44_100, channels=2)
    loud, rate_hz = soundfile.read(path)
    soundfile.write(tmp_path / "loud.wav", 3 * loud, rate_hz, subtype="FLOAT")  # clipped before it is resampled
    for one in (path, tmp_path / "loud.wav"):
        np.testing.assert_array_equal(load_clip(one), np.concatenate(list(RecordingSource(one, speed=0))))


def test_a_clip_of_any_rate_and_channels_is_16_khz_mono(tmp_path: Path) -> None:
    pcm = load_clip(tone(tmp_path / "1.wav", seconds=0.5, rate_hz=44_100, channels=2))
    assert pcm.dtype == np.int16
    assert 0 <= pcm.size - 8_000 < FRAME_SAMPLES
    assert abs(int(np.abs(pcm).max()) - 16_384) < 400


@pytest.mark.parametrize("content", ["empty", "silent", "corrupt"])
def test_a_clip_that_holds_no_sound_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.wav"
    if content == "corrupt":
        path.write_bytes(b"not a recording")
    else:
        soundfile.write(path, np.zeros(0 if content == "empty" else 100), 16_000)
    with pytest.raises(ClipUnreadable, match=r"bad\.wav"):
        load_clip(path)
