from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from PIL import Image

from earshot.audio import SEGMENT_SAMPLES, fit_segment
from earshot.spectrogram import DEFAULT_PARAMS, SpectrogramParams, spectrogram
from tests.training.sounds import tone
from training.data.clips import Clip, ClipUnreadable, load_clip
from training.data.hearing import each_heard, hear
from training.data.pictures import write_pictures

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("seconds", "heard", "count", "between"),
    [
        (1.0, [0.0], 1, []),
        (3.0, [0.0], 1, []),
        (3.25, [0.0], 1, []),
        (4.0, [0.0, 3.0], 1, [0.5, 1.0]),
        (6.5, [0, 3, 6], 2, [0.5, 1, 1.5, 2, 2.5, 3.5]),
    ],
)
def test_a_clip_is_cut_as_an_agent_cuts_it_then_after_silence_and_in_between(
    tmp_path: Path, seconds: float, heard: list[float], count: int, between: list[float]
) -> None:
    rng = np.random.default_rng(0)
    pcm = rng.integers(-9_000, 9_000, int(16_000 * seconds)).astype(np.int16)
    soundfile.write(tmp_path / "noise.wav", pcm, 16_000)
    whole = np.concatenate([np.zeros(8_000, np.int16), pcm, np.zeros(SEGMENT_SAMPLES, np.int16)])
    one = hear(tmp_path / "noise.wav")
    assert one.whole == count
    length_s = load_clip(tmp_path / "noise.wav").size / 16_000  # to a whole frame
    ending = [length_s - 3] if seconds > 3 else []
    for images, starts_s in (
        (one.back_to_back, heard),
        ([one.pre_rolled], [-0.5]),
        (one.ending, ending),
        (one.between, between),
    ):
        for image, start_s in zip(images, starts_s, strict=True):
            start = 8_000 + round(16_000 * start_s)
            np.testing.assert_array_equal(image(), spectrogram(whole[start : start + SEGMENT_SAMPLES]))


def test_a_picture_is_shown_as_the_sound_that_it_is_of(tmp_path: Path) -> None:
    path = tone(tmp_path / "hum.wav", seconds=2.0)
    assert write_pictures([Clip(path, "hum", 1, "hum")], tmp_path / "out") == 1
    sound, picture = hear(path), hear(tmp_path / "out" / "hum" / "hum.png")
    assert len(picture.back_to_back) == 1
    assert (picture.whole, picture.ending, picture.between) == (1, (), ())
    np.testing.assert_array_equal(picture.back_to_back[0](), spectrogram(fit_segment(load_clip(path))))
    after_onset = 50 + 5 + 1  # pre-roll, and frames of 10 ms whose window of 100 ms reaches back to the silence
    moved, after_silence = (image[:, after_onset:].astype(int) for image in (picture.pre_rolled(), sound.pre_rolled()))
    assert np.abs(moved - after_silence).max() <= 1


@pytest.mark.parametrize(
    ("picture", "why"),
    [
        (np.zeros((299, 299, 3), np.uint8), r"\(299, 299, 3\), not of \(128, 301, 3\)"),
        (np.ones((128, 301), np.uint8), r"\(128, 301\), not of"),
        (np.zeros((128, 301, 3), np.uint8), "silent"),
        (None, "no picture"),
    ],
)
def test_a_picture_that_is_no_spectrogram_is_refused(tmp_path: Path, picture: np.ndarray | None, why: str) -> None:
    path = tmp_path / "1.png"
    if picture is None:
        path.write_bytes(b"\x89PNG\r\n\x1a\nbut no more")
    else:
        Image.fromarray(picture).save(path)
    with pytest.raises(ClipUnreadable, match=why):
        hear(path)


def test_a_spectrogram_of_other_parameters_is_refused(tmp_path: Path) -> None:
    write_pictures([Clip(tone(tmp_path / "1.wav"), "hum", 1, "hum")], tmp_path)
    with pytest.raises(ClipUnreadable, match="64, 301, 3"):
        hear(tmp_path / "hum" / "1.png", SpectrogramParams(mels=64))


def test_clips_are_heard_in_order_and_one_without_sound_is_listed(tmp_path: Path) -> None:
    paths = [tone(tmp_path / "a.wav"), tmp_path / "broken.wav", tone(tmp_path / "b.wav")]
    paths[1].write_bytes(b"no sound")
    unreadable: list[str] = []
    clips = [Clip(path, "tone", 1, path.name) for path in paths]
    made = list(each_heard(clips, lambda clip: hear(clip.path).back_to_back[0]().shape, unreadable, "clips"))
    shape = (DEFAULT_PARAMS.mels, DEFAULT_PARAMS.frames(), DEFAULT_PARAMS.channels)
    assert made == [(clips[0], shape), (clips[2], shape)]
    assert len(unreadable) == 1
    assert "broken.wav" in unreadable[0]
