from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from earshot.audio import fit_segment
from earshot.spectrogram import spectrogram
from tests.training.sounds import tone
from training.data.clips import FOLD_SHOWN, RECORDING_SHOWN, Clip, load_clip
from training.data.datasets import DataError, find_clips, require_no_copies
from training.data.pictures import write_pictures

if TYPE_CHECKING:
    from pathlib import Path


def fold_dealt(folder: Path, recording: str) -> int:
    """The fold that a sound of this recording of dogs is dealt into."""
    (clip,) = find_clips(tone(folder / "sounds" / "dog" / f"{recording}.wav").parents[1], least_classes=1)
    return clip.fold


def test_a_picture_is_what_a_model_is_shown_with_the_low_frequencies_at_the_bottom(tmp_path: Path) -> None:
    path = tone(tmp_path / "hum.wav", seconds=4.0)
    assert write_pictures([Clip(path, "hum", 1, "hum")], tmp_path / "out") == 1
    with Image.open(tmp_path / "out" / "hum" / "hum.png") as picture:
        pixels = np.asarray(picture)
    np.testing.assert_array_equal(pixels[::-1], spectrogram(fit_segment(load_clip(path))))
    assert pixels[-40:].mean() > pixels[:40].mean()  # 440 Hz


def test_clips_of_one_name_have_a_picture_each_and_one_that_holds_no_sound_has_none(tmp_path: Path) -> None:
    clips = [Clip(tone(tmp_path / folder / "1.wav"), "hum", 1, folder) for folder in "ab"]
    (tmp_path / "2.wav").write_bytes(b"no sound")
    assert write_pictures([*clips, Clip(tmp_path / "2.wav", "hum", 1, "c")], tmp_path / "out") == 2
    assert sorted(path.name for path in (tmp_path / "out" / "hum").iterdir()) == ["1.png", "1_nohash_2.png"]


def test_a_picture_is_of_the_same_recording_and_fold_as_its_sound(tmp_path: Path) -> None:
    names = ("solo.wav", "park/0.wav", "park/1.wav", "park/night/2.wav", "x_nohash_1.wav", "x_nohash_2.wav", "dog.wav")
    for name in (*names, "100032-3-0-0.wav", "more/100033-3-0-1.wav"):
        tone(tmp_path / "data" / "dog" / name)
    sounds = find_clips(tmp_path / "data", least_classes=1)
    assert write_pictures(sounds, tmp_path / "out") == len(names) + 2
    pictures = find_clips(tmp_path / "out", least_classes=1)
    assert sorted((one.source, one.fold) for one in pictures) == sorted((one.source, one.fold) for one in sounds)
    assert {one.source for one in sounds} >= {"dog/solo", "dog/park", "dog/park/night", "dog/x", "freesound:100032"}


def test_a_picture_keeps_a_fold_that_its_data_set_chose(tmp_path: Path) -> None:
    names = ("100032-3-0-0", "100032-3-0-1", "100033-3-0-0")
    clips = [Clip(tone(tmp_path / f"{name}.wav"), "dog", 7, f"freesound:{name[:6]}") for name in names]
    write_pictures(clips, tmp_path / "out")
    assert [(one.source, one.fold) for one in find_clips(tmp_path / "out", least_classes=1)] == [
        (clip.source, 7) for clip in clips
    ]
    written_anew = tmp_path / "out" / "dog" / f"{names[0]}.png"
    Image.fromarray(np.asarray(Image.open(written_anew))).save(written_anew)  # its fellow says it still
    assert {one.fold for one in find_clips(tmp_path / "out", least_classes=1)} == {7}
    moved = tmp_path / "out" / "dog" / "park" / "1.png"
    moved.parent.mkdir()
    (tmp_path / "out" / "dog" / f"{names[2]}.png").rename(moved)
    (clip,) = (one for one in find_clips(tmp_path / "out", least_classes=1) if one.path == moved)
    assert (clip.source, clip.fold) == ("dog/park", fold_dealt(tmp_path, "park"))


@pytest.mark.parametrize("fold", ["0", "-1", "true", '"7"', "7.5", "no JSON"])
def test_a_fold_that_is_none_is_not_taken_from_a_picture(tmp_path: Path, fold: str) -> None:
    (tmp_path / "out" / "dog").mkdir(parents=True)
    said = PngInfo()
    said.add_text(RECORDING_SHOWN, '"dog/park"')
    said.add_text(FOLD_SHOWN, fold)
    Image.new("RGB", (301, 128)).save(tmp_path / "out" / "dog" / "1.png", pnginfo=said)
    (clip,) = find_clips(tmp_path / "out", least_classes=1)
    assert (clip.source, clip.fold) == ("dog/park", fold_dealt(tmp_path, "park"))


def test_a_picture_of_another_class_is_of_the_same_recording_still(tmp_path: Path) -> None:
    for number in range(8):
        tone(tmp_path / "data" / "siren" / f"{number}.wav")
    sounds = find_clips(tmp_path / "data", class_map={"siren": "alarm"}, least_classes=1)
    write_pictures(sounds, tmp_path / "out")
    pictures = find_clips(tmp_path / "out", least_classes=1)
    assert {one.label for one in pictures} == {"alarm"}
    assert {(one.source, one.fold) for one in pictures} == {(one.source, one.fold) for one in sounds}
    for one in pictures:  # as an editor would leave them
        Image.fromarray(np.asarray(Image.open(one.path))).save(one.path)
    assert {one.source for one in find_clips(tmp_path / "out", least_classes=1)} >= {"alarm/0", "alarm/7"}


def test_a_picture_that_is_put_into_the_folder_of_a_recording_is_of_that(tmp_path: Path) -> None:
    for number in range(4):
        tone(tmp_path / "data" / "siren" / f"{number}.wav", seconds=1 + number / 10)
    write_pictures(find_clips(tmp_path / "data", least_classes=1), tmp_path / "out")
    (tmp_path / "out" / "siren" / "one day").mkdir()
    for number in range(2):
        name = f"{number}.png"
        (tmp_path / "out" / "siren" / name).rename(tmp_path / "out" / "siren" / "one day" / name)
    pictures = find_clips(tmp_path / "out", least_classes=1)
    assert {one.source for one in pictures} == {"siren/one day", "siren/2", "siren/3"}


def test_pictures_in_folders_of_recordings_keep_them_whatever_their_class(tmp_path: Path) -> None:
    for number in range(4):
        tone(tmp_path / "data" / "siren" / "park" / f"{number}.wav")
    sounds = find_clips(tmp_path / "data", class_map={"siren": "alarm"}, least_classes=1)
    write_pictures(sounds, tmp_path / "out")
    assert {one.source for one in find_clips(tmp_path / "out", least_classes=1)} == {"siren/park"}


def test_copies_are_known_as_pictures_too(tmp_path: Path) -> None:
    for number in range(8):
        tone(tmp_path / "data" / "siren" / f"{number}.wav")
    write_pictures(find_clips(tmp_path / "data", least_classes=1), tmp_path / "out")
    pictures = find_clips(tmp_path / "out", least_classes=1)
    assert len({one.path.read_bytes() for one in pictures}) == 8
    with pytest.raises(DataError, match="are copies, in folds"):
        require_no_copies(pictures)


def test_what_is_no_picture_is_a_clip_that_cannot_be_read_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "siren").mkdir()
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    giant = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    nested = PngInfo()
    nested.add_text(RECORDING_SHOWN, "[" * 200_000)
    for name in ("giant.png", "copy.png"):
        (tmp_path / "siren" / name).write_bytes(giant + bytes(12))
    (tmp_path / "siren" / "text.png").write_bytes(b"no picture")
    Image.new("RGB", (301, 128)).save(tmp_path / "siren" / "nested.png", pnginfo=nested)
    clips = find_clips(tmp_path, least_classes=1)
    assert {clip.source for clip in clips} == {"siren/giant", "siren/copy", "siren/text", "siren/nested"}
    require_no_copies(clips)


def test_a_class_that_is_a_path_has_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'air/horn' is a path"):
        write_pictures([Clip(tone(tmp_path / "1.wav"), "air/horn", 1, "1")], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_clip_whose_name_is_as_long_as_can_be_has_a_picture(tmp_path: Path) -> None:
    path = tone(tmp_path / "data" / "siren" / f"{'x' * 251}.wav")
    assert len(path.name) == 255
    assert write_pictures(find_clips(tmp_path / "data", least_classes=1), tmp_path / "out") == 1


def test_no_picture_takes_the_name_of_another(tmp_path: Path) -> None:
    clips = [
        Clip(tone(tmp_path / f"{name}.wav"), "hum", 1, name.removesuffix("_nohash_2"))
        for name in ("a/1", "b/1", "c/1_nohash_2")
    ]
    assert write_pictures(clips, tmp_path / "out") == 3
    assert len(list((tmp_path / "out" / "hum").iterdir())) == 3
