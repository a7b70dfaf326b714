from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from producers.frames import FRAME_SAMPLES
from producers.recordings import RecordingSource
from training.datasets import ClipUnreadable, DataError, find_clips, load_clip

if TYPE_CHECKING:
    from pathlib import Path


def tone(path: Path, seconds: float = 1.0, rate_hz: int = 16_000, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate_hz)) / rate_hz)
    soundfile.write(path, np.stack([wave] * channels, axis=1), rate_hz)
    return path


def test_urbansound8ks_table_gives_label_fold_and_source_and_clips_that_are_absent_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "UrbanSound8K.csv").write_text(
        "slice_file_name,fsID,fold,classID,class\n7-3-0-0.wav,7,1,3,dog_bark\n8-8-0-0.wav,8,2,8,siren\n9-8-0-0.wav,9,2,8,siren\n"
    )
    tone(tmp_path / "audio" / "fold1" / "7-3-0-0.flac")
    tone(tmp_path / "audio" / "fold2" / "8-8-0-0.wav")
    found = [(clip.path.name, clip.label, clip.fold, clip.source) for clip in find_clips(tmp_path)]
    assert found == [("7-3-0-0.flac", "dog_bark", 1, "7"), ("8-8-0-0.wav", "siren", 2, "8")]


@pytest.mark.parametrize("table", ["name,fold\n1.wav,1\n", "slice_file_name,fsID,fold,class\n1.wav,7,one,siren\n"])
def test_another_table_than_urbansound8ks_is_named(tmp_path: Path, table: str) -> None:
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "UrbanSound8K.csv").write_text(table)
    tone(tmp_path / "audio" / "foldone" / "1.wav")
    with pytest.raises(DataError, match=r"UrbanSound8K\.csv is not UrbanSound8K's table"):
        find_clips(tmp_path)


def test_a_source_in_two_folds_is_refused_because_it_would_leak(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "UrbanSound8K.csv").write_text(
        "slice_file_name,fsID,fold,classID,class\n7-3-0-0.wav,7,1,3,dog_bark\n7-8-0-0.wav,7,2,8,siren\n"
    )
    tone(tmp_path / "audio" / "fold1" / "7-3-0-0.wav")
    tone(tmp_path / "audio" / "fold2" / "7-8-0-0.wav")
    with pytest.raises(DataError, match="leak"):
        find_clips(tmp_path)


def test_a_folder_for_each_class_is_dealt_into_folds_that_do_not_change(tmp_path: Path) -> None:
    for name in ("a/1.wav", "a/2.wav", "b/3.wav"):
        tone(tmp_path / name)
    clips = find_clips(tmp_path)
    assert [clip.label for clip in clips] == ["a", "a", "b"]
    assert all(1 <= clip.fold <= 5 for clip in clips)
    assert find_clips(tmp_path) == clips


def test_files_of_one_name_in_two_folders_are_two_recordings(tmp_path: Path) -> None:
    for name in ("cat/1.wav", "dog/1.wav"):
        tone(tmp_path / name)
    assert {clip.source for clip in find_clips(tmp_path)} == {"cat/1.wav", "dog/1.wav"}


def test_a_clip_is_what_an_agent_hears_of_it(tmp_path: Path) -> None:
    path = tone(tmp_path / "1.wav", seconds=2.0, rate_hz=44_100, channels=2)
    loud, rate_hz = soundfile.read(path)
    soundfile.write(tmp_path / "loud.wav", 3 * loud, rate_hz, subtype="FLOAT")  # clipped before it is resampled
    for one in (path, tmp_path / "loud.wav"):
        np.testing.assert_array_equal(load_clip(one), np.concatenate(list(RecordingSource(one, speed=0))))


def test_one_class_or_none_is_refused(tmp_path: Path) -> None:
    tone(tmp_path / "a" / "1.wav")
    with pytest.raises(DataError, match="training needs clips of two classes at least"):
        find_clips(tmp_path)
    with pytest.raises(DataError, match="not a folder"):
        find_clips(tmp_path / "gone")


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
