from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from tests.training.sounds import tone
from training.data.layouts import OWN_FOLDS, NotThisLayout, clips_in
from training.evaluation.judging import random_split

if TYPE_CHECKING:
    from pathlib import Path


def test_urbansound8ks_table_gives_label_fold_and_source_and_clips_that_are_absent_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "UrbanSound8K.csv").write_text(
        "slice_file_name,fsID,fold,classID,class\n7-3-0-0.wav,7,1,3,dog_bark\n8-8-0-0.wav,8,2,8,siren\n9-8-0-0.wav,9,2,8,siren\n"
    )
    tone(tmp_path / "audio" / "fold1" / "7-3-0-0.flac")
    tone(tmp_path / "audio" / "fold2" / "8-8-0-0.wav")
    found = [(clip.path.name, clip.label, clip.fold, clip.source) for clip in clips_in(tmp_path)]
    assert found == [("7-3-0-0.flac", "dog_bark", 1, "freesound:7"), ("8-8-0-0.wav", "siren", 2, "freesound:8")]


def test_esc50s_table_gives_label_fold_and_the_recording_on_freesound(tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "esc50.csv").write_text(
        "filename,fold,target,category,esc10,src_file,take\n1-32318-A-0.wav,1,0,dog,True,32318,A\n"
        "5-9032-B-42.wav,5,42,siren,False,9032,B\n5-9-A-42.wav,5,42,siren,False,9,A\n"
    )
    tone(tmp_path / "audio" / "1-32318-A-0.wav")
    tone(tmp_path / "audio" / "5-9032-B-42.flac")
    found = [(clip.path.name, clip.label, clip.fold, clip.source) for clip in clips_in(tmp_path)]
    assert found == [
        ("1-32318-A-0.wav", "dog", 1, "freesound:32318"),
        ("5-9032-B-42.flac", "siren", 5, "freesound:9032"),
    ]


@pytest.mark.parametrize(
    ("table", "content", "whose"),
    [
        ("metadata/UrbanSound8K.csv", b"name,fold\n1.wav,1\n", "UrbanSound8K"),
        ("metadata/UrbanSound8K.csv", b"slice_file_name,fsID,fold,class\n1.wav,7,one,siren\n", "UrbanSound8K"),
        ("meta/esc50.csv", b"filename,fold\n1.wav,1\n", "ESC-50"),
        ("meta/esc50.csv", b"filename,fold,category,src_file\n1.wav,1", "ESC-50"),
        ("meta/esc50.csv", b"filename,fold,category,src_file\n1.wav", "ESC-50"),
        ("meta/esc50.csv", b"filename,fold,category,src_file\n\xff\xfe,1,a,7\n", "ESC-50"),
    ],
)
def test_another_table_under_that_name_is_told(tmp_path: Path, table: str, content: bytes, whose: str) -> None:
    (tmp_path / table).parent.mkdir()
    (tmp_path / table).write_bytes(content)
    tone(tmp_path / "audio" / "foldone" / "1.wav")
    tone(tmp_path / "audio" / "1.wav")
    with pytest.raises(NotThisLayout, match=rf"{(tmp_path / table).name} is not {whose}'s table"):
        clips_in(tmp_path)


def test_a_folder_for_each_class_is_dealt_into_folds_that_do_not_change(tmp_path: Path) -> None:
    for name in ("a/1.wav", "a/2.wav", "b/3.wav"):
        tone(tmp_path / name)
    clips = clips_in(tmp_path)
    assert [clip.label for clip in clips] == ["a", "a", "b"]
    assert all(1 <= clip.fold <= 5 for clip in clips)
    assert clips_in(tmp_path) == clips


def test_the_folder_of_a_class_without_a_recording_is_named_in_the_log(tmp_path: Path) -> None:
    for name in ("cat/1.wav", "dog/1.wav"):
        tone(tmp_path / name)
    for name in ("owl/notes.txt", "owl/._1.wav", ".git/1.wav", "__MACOSX/cat/1.wav", "dog/.trash/2.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with capture_logs() as lines:
        assert [clip.label for clip in clips_in(tmp_path)] == ["cat", "dog"]
    assert [line["folder"] for line in lines] == [str(tmp_path / "owl")]


def test_files_of_one_name_in_two_folders_are_two_recordings(tmp_path: Path) -> None:
    for name in ("cat/1.wav", "dog/1.wav"):
        tone(tmp_path / name)
    assert {clip.source for clip in clips_in(tmp_path)} == {"cat/1", "dog/1"}


@pytest.mark.parametrize(
    ("names", "source"),
    [
        (("siren/7-8-0-0.wav", "siren/7-8-1-0.wav"), "freesound:7"),
        (("siren/3-7-A-42.wav", "siren/3-7-B-42.wav"), "freesound:7"),
        (("siren/street_nohash_0.wav", "siren/street_nohash_1.wav"), "siren/street"),
        (("siren/street/1.wav", "siren/street/2.ogg"), "siren/street"),
    ],
)
def test_files_that_are_named_as_takes_of_one_recording_share_its_fold(
    tmp_path: Path, names: tuple[str, ...], source: str
) -> None:
    for name in names:
        tone(tmp_path / name.replace(".ogg", ".wav")).rename(tmp_path / name)
    clips = clips_in(tmp_path)
    assert [clip.source for clip in clips] == [source, source]
    assert len({clip.fold for clip in clips}) == 1
    assert {clip.label for clip in clips} == {"siren"}


def test_files_that_are_named_by_their_time_are_recordings_each(tmp_path: Path) -> None:
    names = ("2026-01-01-180400", "2026-01-02-180400", "2026-11-20-070000", "2026-3-15-1", "2026-3-9-2")
    for name in names:
        tone(tmp_path / "siren" / f"{name}.wav")
    assert [clip.source for clip in clips_in(tmp_path)] == [f"siren/{name}" for name in names]


def test_a_recording_of_freesound_may_have_the_number_of_a_year(tmp_path: Path) -> None:
    for name in ("2026-3-0-1", "2026-3-0-15"):  # no day is 0
        tone(tmp_path / "siren" / f"{name}.wav")
    assert {clip.source for clip in clips_in(tmp_path)} == {"freesound:2026"}


def test_a_name_that_is_no_text_is_one_as_any_other(tmp_path: Path) -> None:
    tone(tmp_path / "bell" / "church.wav")
    (tmp_path / "bell" / "church.wav").rename(tmp_path / "bell" / os.fsdecode(b"caf\xe9.wav"))
    (clip,) = clips_in(tmp_path)
    assert 1 <= clip.fold <= OWN_FOLDS
    assert os.fsencode(clip.source) == b"bell/caf\xe9"
    assert random_split([clip]) in ([], [clip])
