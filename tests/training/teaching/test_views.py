"""What a teacher hears, which pieces of sounds are heard, and the views that are made of them."""

from __future__ import annotations

import fcntl
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from earshot.audio import SEGMENT_SAMPLES
from earshot.labels import UNKNOWN
from tests.training.teaching.conftest import write_teacher
from training.data.clips import Clip
from training.data.datasets import DataError
from training.teaching.pieces import MOST_EACH, PIECE_S, Pieces, cut_pieces
from training.teaching.taught import _kept_out, write_views
from training.teaching.teacher import Teacher, TeacherError
from training.teaching.views import Mixing, make_view

if TYPE_CHECKING:
    from pathlib import Path


def test_a_teacher_hears_sound_at_full_scale_as_one(teacher: Path) -> None:
    pcm = np.array([[-32_768] * 100, [16_384] * 100], np.int16)
    answers = Teacher(teacher).answers(pcm)
    np.testing.assert_allclose(answers, np.array([[1, -2, 10], [0.5, -1, 5]]))
    assert Teacher(teacher).outputs == 3


@pytest.mark.parametrize("wrong", ["missing", "nonsense", "takes a second"])
def test_what_is_no_teacher_is_named(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "teacher.onnx"
    if wrong == "nonsense":
        path.write_bytes(b"nonsense")
    if wrong == "takes a second":
        write_teacher(path, 16_000)
    with pytest.raises(TeacherError, match=r"teacher\.onnx"):
        Teacher(path)


def test_a_long_recording_is_not_most_of_what_is_heard_and_none_is_heard_twice(pieces: Pieces) -> None:
    sizes = [pieces[number].size / 16_000 for number in range(len(pieces))]
    # A tone of 440 Hz is the same after each second.
    assert sizes == [pytest.approx(0.51), PIECE_S]
    assert pieces.hours == pytest.approx(10.51 / 3600)


def test_pieces_lie_evenly_over_a_recording(tmp_path: Path) -> None:
    ramp = np.linspace(0.01, 0.99, 16_000 * 200)
    soundfile.write(tmp_path / "ramp.wav", ramp, 16_000)
    cut, _ = cut_pieces([[Clip(tmp_path / "ramp.wav", UNKNOWN, 1, "ramp")]], tmp_path / "work")
    assert len(cut) == MOST_EACH
    begins = [int(cut[number][0]) / 32_768 for number in range(len(cut))]
    np.testing.assert_allclose(np.diff(begins), 0.98 * 2.5 * 10 / 200, atol=0.03)


def test_what_validates_is_of_other_recordings_than_what_is_learnt_from(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clips = []
    for number in range(12):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, rng.uniform(-0.5, 0.5, 16_000 * 25), 16_000)
        clips.append(Clip(path, UNKNOWN, 1, f"freesound:{number // 2}"))  # each recording is two clips
    cut, _ = cut_pieces([clips[:10], clips[10:]], tmp_path / "work")
    assert len(cut) == 12 * 3
    unheard, heard = _kept_out(cut, seed=0)
    assert [len(own) for own in unheard] == [2 * 3]  # of the second kind, one recording, nothing
    assert [len(own) for own in heard] == [4 * 2 * 3, 2 * 3]
    assert not set(cut.recordings[np.concatenate(unheard)]) & set(cut.recordings[np.concatenate(heard)])
    again, _ = cut_pieces([clips[:9], clips[9:]], tmp_path / "work")  # one recording is of both kinds
    for seed in range(9):
        unheard, heard = _kept_out(again, seed)
        assert not set(again.recordings[np.concatenate(unheard)]) & set(again.recordings[np.concatenate(heard)])
    alone, _ = cut_pieces([clips[10:]], tmp_path / "work")
    with pytest.raises(DataError, match="too few sounds"):
        _kept_out(alone, seed=0)


def test_views_are_of_one_length_and_peak_and_the_same_again_from_the_same_seed(pieces: Pieces) -> None:
    def view(seed: int) -> Any:
        return make_view(pieces, [np.arange(len(pieces))], np.random.default_rng(seed), Mixing())

    views = [view(seed) for seed in range(60)]
    assert {one.shape for one in views} == {(SEGMENT_SAMPLES,)}
    peaks = [np.abs(one.astype(int)).max() for one in views]
    assert min(peaks) >= 32_766
    assert any((one == 0).sum() > 8_000 for one in views)  # a short sound in silence
    np.testing.assert_array_equal(view(7), views[7])


def test_views_are_kept_with_what_the_teacher_says_of_each(
    pieces: Pieces, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write_views(pieces, 130, Teacher(teacher), 3, tmp_path / "views")
    assert (len(made), made.validation, made.answers.shape) == (130, 3, (130, 3))
    images = made.images[range(130)]
    assert images.shape == (130, 128, 301, 3)
    assert images.max() == 255
    np.testing.assert_allclose(made.answers[:, 2], 10 * made.answers[:, 0], rtol=1e-5)
    monkeypatch.setattr("training.teaching.taught.make_view", None)  # nothing is made again
    again = write_views(pieces, 130, Teacher(teacher), 3, tmp_path / "views")
    np.testing.assert_array_equal(again.answers, made.answers)
    np.testing.assert_array_equal(again.images[[5, 129]], images[[5, 129]])


def test_views_that_a_killed_run_had_made_are_not_made_again_and_only_one_run_makes_them(
    pieces: Pieces, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write_views(pieces, 200, Teacher(teacher), 3, tmp_path / "whole")
    heard = Teacher(teacher)

    def killed_at_the_third(pcm: Any) -> Any:
        if len(on_disk) == 2:
            raise KeyboardInterrupt
        files = sorted((tmp_path / "views").iterdir(), reverse=True)
        on_disk.append(tuple(file.stat().st_size for file in files))
        return heard.answers(pcm)

    on_disk: list[tuple[int, ...]] = []
    dying = Teacher(teacher)
    monkeypatch.setattr(dying, "answers", killed_at_the_third)
    monkeypatch.setattr("training.teaching.taught.THREADS", 1)
    with pytest.raises(KeyboardInterrupt):
        write_views(pieces, 200, dying, 3, tmp_path / "views")
    pictures, answers = sorted((tmp_path / "views").iterdir(), reverse=True)
    assert (pictures.suffix, answers.suffix) == (".images", ".answers")
    image, answer = 128 * 301 * 3, 3 * 4
    assert on_disk == [(0, 0), (64 * image, 64 * answer)]  # a kill that nobody can catch loses no chunk
    made: list[int] = []

    def counted(pieces: Pieces, kinds: Any, rng: Any, mixing: Any) -> Any:
        made.append(1)
        return make_view(pieces, kinds, rng, mixing)

    monkeypatch.setattr("training.teaching.taught.make_view", counted)
    for cut_off, junk, left in ((answers, 70 * image, 128), (pictures, 70 * answer, 128), (answers, 0, 100)):
        for file, size in ((pictures, image), (answers, answer)):
            with file.open("r+b") as opened:
                opened.truncate(left * size)
                opened.seek(0, 2)
                opened.write(bytes(0 if file == cut_off else junk))
        with pictures.open("ab") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            with pytest.raises(DataError, match="another run makes these views"):
                write_views(pieces, 200, Teacher(teacher), 3, tmp_path / "views")
        made.clear()
        again = write_views(pieces, 200, Teacher(teacher), 3, tmp_path / "views")
        assert len(made) == 200 - left // 64 * 64
        np.testing.assert_array_equal(again.answers, whole.answers)
        np.testing.assert_array_equal(again.images[range(200)], whole.images[range(200)])
    again.files[0].unlink()  # then they are made again
    assert len(write_views(pieces, 200, Teacher(teacher), 3, tmp_path / "views")) == 200
