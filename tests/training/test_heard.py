"""Which recordings weights heard without labels, and how clips of these are known again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from earshot.labels import UNKNOWN
from training.data.clips import Clip
from training.data.heard import heard_recordings, marks, too_kind

if TYPE_CHECKING:
    import pytest


def clip(folder: Path, name: str, content: bytes, source: str = "") -> Clip:
    (folder / name).write_bytes(content)
    return Clip(folder / name, "a", 1, source or name)


def test_a_clip_is_known_again_by_its_content_wherever_it_lies(tmp_path: Path) -> None:
    heard = frozenset(marks([clip(tmp_path, "one.wav", b"one"), clip(tmp_path, "two.wav", b"two")]))
    again = clip(tmp_path, "renamed.wav", b"one", "room/1")
    assert heard_recordings(heard, [again, clip(tmp_path, "three.wav", b"three")]) == {"room/1"}
    assert heard_recordings(frozenset(), [again]) == frozenset()


def test_all_clips_of_a_recording_of_which_one_was_heard_are_known(tmp_path: Path) -> None:
    heard = frozenset(marks([clip(tmp_path, "a.wav", b"a", "freesound:7")]))
    assert heard == {"freesound:7"}
    others = [clip(tmp_path, "b.flac", b"b", "freesound:7"), clip(tmp_path, "c.flac", b"c", "freesound:70")]
    assert heard_recordings(heard, others) == {"freesound:7"}
    takes = [clip(tmp_path, "d.wav", b"d", "room/2"), clip(tmp_path, "e.wav", b"e", "room/2")]
    known = heard_recordings(frozenset(marks(takes[:1])), takes)
    assert too_kind(known, takes) == [
        "The weights have heard the recordings of 2 of these 2 clips, without their labels: figures are too kind."
    ]
    assert too_kind(known, others) == []
    rooms = [Clip(Path(f"{room}.wav"), UNKNOWN, 1, f"room/{room}") for room in (2, 3)]
    assert too_kind(known, [*others, *rooms]) == [
        "The weights have heard 1 of these 2 recordings of background: false accepts are too few."
    ]


def test_a_file_that_is_gone_has_no_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert list(marks([Clip(Path("gone.wav"), "a", 1, "gone"), clip(tmp_path, "there.wav", b"")])) == [
        "sha256:e3b0c44298fc1c14"
    ]
