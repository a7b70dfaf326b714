from __future__ import annotations

from pathlib import Path

import pytest

from local.recordings import NoRecordings, Recording, find_recordings, shared_out, truth_of

ROOT = Path("root")


@pytest.mark.parametrize(
    ("path", "truth"),
    [
        ("fold1/101415-3-0-2.flac", "dog_bark"),
        ("siren.wav", "siren"),
        ("kitchen/kettle/0001.mp3", "kettle"),
        ("unnamed.ogg", None),
        ("101415-3-0.wav", None),
    ],
)
def test_the_truth_is_read_from_a_recordings_name_or_folder(path: str, truth: str | None) -> None:
    assert truth_of(ROOT / path, ROOT) == truth


def test_recordings_are_found_below_a_folder_by_name_and_other_files_are_not(tmp_path: Path) -> None:
    for name in ("b/2.FLAC", "a/1.wav", "a/notes.txt", "3.mp3"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = [str(recording.path.relative_to(tmp_path)) for recording in find_recordings(tmp_path)]
    assert found == ["3.mp3", "a/1.wav", "b/2.FLAC"]


def test_a_folder_that_is_missing_or_has_no_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoRecordings, match=r"gone is not a folder"):
        find_recordings(tmp_path / "gone")
    with pytest.raises(NoRecordings, match=r"holds no \.flac"):
        find_recordings(tmp_path)


def test_every_recording_is_dealt_to_one_device_and_no_device_is_idle() -> None:
    recordings = [Recording(Path(str(number)), None) for number in range(5)]
    dealt = shared_out(recordings, 2)
    assert sorted((recording for share in dealt for recording in share), key=lambda one: one.path) == recordings
    assert [len(share) for share in shared_out(recordings, 8)] == [1] * 8
