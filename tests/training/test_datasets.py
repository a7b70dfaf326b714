from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from tests.training.sounds import tone
from training.data.clips import Clip
from training.data.datasets import (
    DataError,
    chosen_folds,
    clips_of,
    find_clips,
    read_class_map,
    require_no_copies,
    thin_classes,
)
from training.data.pictures import write_pictures
from training.settings import RetrainSettings

if TYPE_CHECKING:
    from pathlib import Path


def test_a_source_in_two_folds_is_refused_because_it_would_leak(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "UrbanSound8K.csv").write_text(
        "slice_file_name,fsID,fold,classID,class\n7-3-0-0.wav,7,1,3,dog_bark\n7-8-0-0.wav,7,2,8,siren\n"
    )
    tone(tmp_path / "audio" / "fold1" / "7-3-0-0.wav")
    tone(tmp_path / "audio" / "fold2" / "7-8-0-0.wav")
    with pytest.raises(
        DataError, match=r"folds 1 and 2, as .*fold1/7-3-0-0\.wav and .*fold2/7-8-0-0\.wav: it would leak"
    ):
        find_clips(tmp_path)


def test_one_class_or_none_is_refused(tmp_path: Path) -> None:
    tone(tmp_path / "a" / "1.wav")
    with pytest.raises(DataError, match="training needs clips of two classes at least"):
        find_clips(tmp_path)
    with pytest.raises(DataError, match="not a folder"):
        find_clips(tmp_path / "gone")


def urbansound8k(folder: Path, *rows: str) -> Path:
    """A data set with UrbanSound8K's table of `rows`: name, recording, fold, class."""
    (folder / "metadata").mkdir(parents=True)
    (folder / "metadata" / "UrbanSound8K.csv").write_text("slice_file_name,fsID,fold,class\n" + "\n".join(rows) + "\n")
    for row in rows:
        name, _, fold, _ = row.split(",")
        tone(folder / "audio" / f"fold{fold}" / name)
    return folder


def test_a_table_that_is_not_the_data_sets_is_told(tmp_path: Path) -> None:
    (urbansound8k(tmp_path, "1.wav,7,1,siren") / "metadata" / "UrbanSound8K.csv").write_text("name\n1.wav\n")
    with pytest.raises(DataError, match="fetch it again"):
        find_clips(tmp_path)


def test_a_table_of_which_no_file_is_there_is_told(tmp_path: Path) -> None:
    data = urbansound8k(tmp_path, "1.wav,7,1,siren", "2.wav,8,1,dog_bark")
    (data / "audio" / "fold1").rename(data / "audio" / "fold-1")
    with pytest.raises(DataError, match=r"UrbanSound8K\.csv names 2 clips, and none of them is in .*audio; fetch"):
        find_clips(data)


def test_a_clip_with_two_classes_is_refused(tmp_path: Path) -> None:
    data = urbansound8k(tmp_path, "1.wav,7,1,siren", "2.wav,8,1,dog_bark", "1.wav,7,1,dog_bark")
    with pytest.raises(DataError, match=r"1\.wav is of siren and of dog_bark; a clip has one class"):
        clips_of(RetrainSettings.read({"data": str(data)}))


def test_blanks_about_a_name_in_a_table_are_none_of_it(tmp_path: Path) -> None:
    table = urbansound8k(tmp_path, "1.wav,7,1,siren", "2.wav,8,1,dog_bark") / "metadata" / "UrbanSound8K.csv"
    table.write_text(table.read_text().replace(",siren", ", siren "))
    assert {clip.label for clip in find_clips(tmp_path)} == {"siren", "dog_bark"}


def test_a_table_with_a_quote_that_nobody_closes_is_told(tmp_path: Path) -> None:
    data = urbansound8k(tmp_path / "data", "1.wav,7,1,siren")
    open_quote = '"' + "1.wav,7,1,siren\n" * 10_000
    (data / "metadata" / "UrbanSound8K.csv").write_text("slice_file_name,fsID,fold,class\n" + open_quote)
    with pytest.raises(DataError, match=r"field larger than field limit.*fetch it again"):
        find_clips(data)
    (tmp_path / "map.csv").write_text("label,class\n" + open_quote)
    with pytest.raises(DataError, match="is no CSV table"):
        read_class_map(tmp_path / "map.csv")


def test_that_files_of_one_name_in_two_data_sets_count_as_one_recording_is_said(tmp_path: Path) -> None:
    for name in ("one/dog/1.wav", "one/cat/1.wav", "two/dog/1.wav", "two/cat/2.wav"):
        tone(tmp_path / name)
    with capture_logs() as logged:
        clips = find_clips(tmp_path / "one", tmp_path / "two")
    assert len({clip.source for clip in clips}) == len(clips) - 1
    (line,) = logged
    assert "count as the same recordings" in line["event"]
    assert (line["recordings"], line["such_as"]) == (1, "dog/1")


@pytest.mark.parametrize("order", [("one", "pictures"), ("pictures", "one")])
def test_of_pictures_beside_the_sounds_that_they_show_nothing_is_said(tmp_path: Path, order: tuple[str, str]) -> None:
    for name in ("one/dog/1.wav", "one/cat/1.wav"):
        tone(tmp_path / name)
    sounds = find_clips(tmp_path / "one")
    write_pictures(sounds, tmp_path / "pictures")
    with capture_logs() as logged:
        clips = find_clips(*(tmp_path / name for name in order))
    assert (len(clips), {clip.source for clip in clips}) == (4, {clip.source for clip in sounds})
    assert logged == []


def test_a_data_set_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    for name in ("one/dog/1.wav", "one/cat/1.wav"):
        tone(tmp_path / name)
    assert len(find_clips(tmp_path / "one", tmp_path / "one" / "cat" / "..")) == 2


def test_a_recording_of_two_data_sets_is_in_one_fold(tmp_path: Path) -> None:
    first = urbansound8k(tmp_path / "first", "7-3-0-0.wav,7,1,dog_bark", "8-8-0-0.wav,8,2,siren")
    (tmp_path / "second" / "meta").mkdir(parents=True)
    (tmp_path / "second" / "meta" / "esc50.csv").write_text(
        "filename,fold,target,category,esc10,src_file,take\n4-7-A-0.wav,4,0,dog,True,7,A\n5-9-A-0.wav,5,0,dog,True,9,A\n"
    )
    for name in ("4-7-A-0.wav", "5-9-A-0.wav"):
        tone(tmp_path / "second" / "audio" / name)
    folds = {clip.path.name: clip.fold for clip in find_clips(first, tmp_path / "second")}
    assert folds == {"7-3-0-0.wav": 1, "8-8-0-0.wav": 2, "4-7-A-0.wav": 1, "5-9-A-0.wav": 5}


def class_map(path: Path, *rows: str) -> Path:
    path.write_text("label,class\n" + "\n".join(rows) + "\n")
    return path


def test_a_class_map_renames_and_leaves_out(tmp_path: Path) -> None:
    for name in ("dog/1.wav", "hound/2.wav", "siren/3.wav", "rain/4.wav"):
        tone(tmp_path / name)
    rows = ["hound,dog", "rain,"]
    labels = [clip.label for clip in find_clips(tmp_path, class_map=read_class_map(class_map(tmp_path / "map", *rows)))]
    assert labels == ["dog", "dog", "siren"]
    rows = ["hound,dog", "dog,dog", "siren,siren", "*,other"]
    labels = [clip.label for clip in find_clips(tmp_path, class_map=read_class_map(class_map(tmp_path / "map", *rows)))]
    assert labels == ["dog", "dog", "other", "siren"]


def test_a_class_map_that_does_not_fit_is_told(tmp_path: Path) -> None:
    for name in ("dog/1.wav", "siren/2.wav"):
        tone(tmp_path / name)
    partly = read_class_map(class_map(tmp_path / "map", "dog,animal", "hounds,animal"))
    assert [clip.label for clip in find_clips(tmp_path, class_map=partly, whole_map=False)] == ["animal", "siren"]
    nothing = read_class_map(class_map(tmp_path / "map", "hounds,dog", "cats,cat"))
    with pytest.raises(DataError, match=r"names cats, hounds, which no data set has; there are dog, siren"):
        find_clips(tmp_path, class_map=nothing, whole_map=False)
    with pytest.raises(DataError, match=r"names hounds, which no data set has; there are dog, siren"):
        find_clips(tmp_path, class_map=read_class_map(class_map(tmp_path / "map", "hounds,dog")))
    with pytest.raises(DataError, match="two classes at least"):
        find_clips(tmp_path, class_map=read_class_map(class_map(tmp_path / "map", "*,dog")))
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_class_map(tmp_path / "gone")
    (tmp_path / "map").write_text("label,class\n")
    with pytest.raises(DataError, match="has no row; give each label its class"):
        read_class_map(tmp_path / "map")
    with pytest.raises(DataError, match="ends the row of siren too early; a comma after it leaves it out"):
        read_class_map(class_map(tmp_path / "map", "dog,dog", "siren"))
    (tmp_path / "map").write_text("from;to\ndog;hound\n")
    with pytest.raises(DataError, match="columns label and class"):
        read_class_map(tmp_path / "map")


def test_classes_of_few_recordings_are_counted_by_recording_not_by_clip(tmp_path: Path) -> None:
    for number in range(12):
        tone(tmp_path / "dog" / f"{number}.wav")
        tone(tmp_path / "siren" / "one" / f"{number}.wav")
    assert thin_classes(find_clips(tmp_path)) == {"siren": 1}


def test_a_table_as_spreadsheets_write_it_is_read_and_a_class_is_no_path(tmp_path: Path) -> None:
    (tmp_path / "map").write_bytes(b"\xef\xbb\xbflabel,class\r\nhound,dog\r\n")
    assert read_class_map(tmp_path / "map") == {"hound": "dog"}
    with pytest.raises(DataError, match=r"'\.\./dog' is a path, so no folder can have it"):
        read_class_map(class_map(tmp_path / "map", "hound,../dog"))


def test_a_label_has_one_class_in_a_class_map(tmp_path: Path) -> None:
    assert read_class_map(class_map(tmp_path / "map", "hound,dog", "hound,dog")) == {"hound": "dog"}
    with pytest.raises(DataError, match="has hound as 'dog' and as ''; leave one of them"):
        read_class_map(class_map(tmp_path / "map", "hound,dog", "hound,"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("new\nline", "'new\\\\nline' is not one line"),
        (os.fsdecode(b"caf\xe9"), "is no text"),
        ("", "'' is not one line"),
    ],
)
def test_what_cannot_be_the_name_of_a_class_is_told_before_the_work(tmp_path: Path, name: str, words: str) -> None:
    if name:
        tone(tmp_path / "1.wav")
        (tmp_path / name).mkdir()
        (tmp_path / "1.wav").rename(tmp_path / name / "1.wav")
    else:
        tone(tmp_path / "audio" / "1.wav")
        (tmp_path / "meta").mkdir()
        (tmp_path / "meta" / "esc50.csv").write_text("filename,fold,category,src_file\n1.wav,1,,7\n")
    with pytest.raises(DataError, match=words):
        find_clips(tmp_path, least_classes=1)


def test_folds_are_named_once_each(tmp_path: Path) -> None:
    for name in ("dog/1.wav", "siren/2.wav"):
        tone(tmp_path / name)
    clips = find_clips(tmp_path)
    fold = clips[0].fold
    assert chosen_folds(f"{fold},{fold}", clips) == [fold]


def test_a_copy_in_another_fold_is_refused_and_in_a_folder_of_both_it_is_one_recording(tmp_path: Path) -> None:
    folder = tmp_path / "own" / "dog"
    folder.mkdir(parents=True)
    for number in range(20):
        (folder / f"bark {number}.wav").write_bytes(bytes([number]) * 100)
    (folder / "empty.wav").touch()
    (folder / "void.wav").touch()
    clips = find_clips(tmp_path / "own", least_classes=1)
    require_no_copies(clips)
    one = next(clip for clip in clips if clip.path.name == "bark 0.wav")
    other = next(clip for clip in clips if clip.fold != one.fold and clip.path.stat().st_size)
    other.path.write_bytes(one.path.read_bytes())
    with pytest.raises(DataError, match=r"bark .* are copies, in folds . and ., so"):
        require_no_copies(clips)
    (folder / "rex").mkdir()
    for clip in (one, other):
        clip.path.rename(folder / "rex" / clip.path.name)
    require_no_copies(find_clips(tmp_path / "own", least_classes=1))


def test_copies_that_freesound_has_under_two_numbers_are_left_where_the_data_set_puts_them(tmp_path: Path) -> None:
    clips = [Clip(tmp_path / f"{number}.wav", "dog", number, f"freesound:{number}") for number in (1, 2)]
    for clip in clips:
        clip.path.write_bytes(b"sound")
    require_no_copies(clips)
    with pytest.raises(DataError, match="are copies"):
        require_no_copies([clips[0], replace(clips[1], source="own")])
