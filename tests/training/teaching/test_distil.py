"""Learning from an audio teacher: what it hears, what is made of sounds without labels, and the weights in the end."""

from __future__ import annotations

import fcntl
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import soundfile
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from earshot.audio import SEGMENT_SAMPLES
from earshot.labels import UNKNOWN
from serving.network import Architecture, Head, blocks_needed
from tests.training.conftest import write_taught
from tests.training.sounds import tone
from training.data.clips import Clip
from training.data.datasets import DataError, find_background, find_clips
from training.data.heard import marks
from training.distil import app
from training.finetuning.learner import Learnt
from training.teaching.pieces import MOST_EACH, PIECE_S, Pieces, cut_pieces
from training.teaching.taught import Taught, _kept_out, write_views
from training.teaching.teacher import Teacher, TeacherError
from training.teaching.views import Mixing, make_view
from training.weights import load_weights, save_weights

if TYPE_CHECKING:
    from pathlib import Path


def write_teacher(path: Path, samples: str | int = "samples") -> Path:
    """It says how loud a sound is, and how much of it is above its mean."""
    scale = numpy_helper.from_array(np.array([1.0, -2.0, 10.0], np.float32), "scale")
    nodes = [
        helper.make_node("Abs", ["sound"], ["loud"]),
        helper.make_node("ReduceMean", ["loud"], ["level"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["level", "scale"], ["said"]),
    ]
    graph = helper.make_graph(
        nodes,
        "teacher",
        [helper.make_tensor_value_info("sound", TensorProto.FLOAT, ["batch", samples])],
        [helper.make_tensor_value_info("said", TensorProto.FLOAT, ["batch", 3])],
        [scale],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    return write_teacher(tmp_path / "teacher.onnx")


@pytest.fixture
def pieces(tmp_path: Path) -> Pieces:
    for name, seconds in (("short", 0.5), ("long", 200.0)):
        tone(tmp_path / "sounds" / f"{name}.wav", seconds)
    (tmp_path / "sounds" / "again.wav").write_bytes((tmp_path / "sounds" / "short.wav").read_bytes())
    (tmp_path / "sounds" / "broken.wav").write_bytes(b"no sound")
    soundfile.write(tmp_path / "sounds" / "silent.wav", np.zeros(16_000), 16_000)
    names = ("short", "long", "again", "broken", "silent")
    recordings = [Clip(tmp_path / "sounds" / f"{name}.wav", UNKNOWN, 1, name) for name in names]
    cut, unreadable = cut_pieces([recordings], tmp_path / "work")
    assert ["broken" in unreadable[0], "silent" in unreadable[1]] == [True, True]
    return cut


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


def test_the_command_writes_weights_that_say_what_the_teacher_says(
    pieces: Pieces, teacher: Path, weights_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "sounds" / "empty").mkdir()
    out, cache = tmp_path / "sound.npz", tmp_path / "cache"
    options = ["--teacher", str(teacher), "--out", str(out), "--weights", str(weights_file), "--cache", str(cache)]
    small = ["--views", "100", "--epochs", "3", "--last", "mixed0", "--shrink", "2,4", "--learning-rate", "1e-3"]
    ended = CliRunner().invoke(app, [str(tmp_path / "sounds"), *options, *small])
    assert ended.exit_code == 0, ended.output
    assert "2 pieces of sound" in ended.output
    assert [line.split(":")[0] for line in ended.output.splitlines() if "unaccounted for" in line] == [
        f"epoch {number}" for number in (1, 2, 3)
    ]
    taught, before = load_weights(str(out)), load_weights(str(weights_file))
    assert taught.input_range == before.input_range
    assert taught.architecture == Architecture(("mixed0",), 1, before.input_range, (2, 4))
    assert taught.heard == frozenset(marks(find_background([tmp_path / "sounds"])))
    assert len(taught.heard or ()) == 4  # of five files, two are alike
    assert taught.readout
    assert (taught.readout.features, taught.readout.classes) == (2 * 256, 3)
    assert len(taught.blocks) == 12  # of the stem and mixed0: the others were not taught
    assert min(np.abs(a.kernel - b.kernel).max() for a, b in zip(taught.blocks, before.blocks, strict=False)) > 0
    assert not (cache / "distilling").exists()
    options[options.index(str(weights_file))] = str(out)
    (cache / "distilling").mkdir()
    (cache / "distilling" / "of-another-run.images").touch()
    tone(tmp_path / "more" / "other.wav", 3.0, 8_000)
    sounds = f"{tmp_path / 'sounds'},{tmp_path / 'more'}"
    ended = CliRunner().invoke(app, [sounds, *options, "--views", "100", "--epochs", "1", "--learning-rate", "1e-9"])
    assert ended.exit_code == 0, ended.output
    assert "mixed0, as taught before" in ended.output
    again = load_weights(str(out))
    assert (again.architecture, bool(again.readout)) == (taught.architecture, True)
    assert again.heard == frozenset(marks(find_background([tmp_path / "sounds", tmp_path / "more"])))
    assert taught.architecture
    assert again.readout
    np.testing.assert_allclose(again.readout.layers[0][0], taught.readout.layers[0][0], atol=1e-5)  # not begun anew
    assert [path.name for path in (cache / "distilling").iterdir()] == ["of-another-run.images"]


def test_the_command_goes_on_from_a_mean_of_weights_and_from_networks_side_by_side(
    pieces: Pieces, teacher: Path, weights_file: Path, tmp_path: Path
) -> None:
    out, other = tmp_path / "out.npz", tmp_path / "other.npz"
    small = Architecture(("mixed0",), 1, (0.0, 1.0), (2, 4))
    write_taught(weights_file, tmp_path / "one.npz", [], small, times=0.5)
    taught = load_weights(str(tmp_path / "one.npz"))
    assert taught.architecture
    assert taught.readout
    moved = [replace(block, beta=block.beta + np.float32(1e-3)) for block in taught.blocks]
    save_weights(moved, taught.architecture, taught.readout, other, [])
    options = ["--teacher", str(teacher), "--out", str(out), "--cache", str(tmp_path / "cache")]
    once = [str(tmp_path / "sounds"), *options, "--views", "100", "--epochs", "1", "--learning-rate", "1e-9"]
    ended = CliRunner().invoke(app, [*once, "--weights", f"{tmp_path / 'one.npz'},{other}"])
    assert ended.exit_code == 0, ended.output
    for block, one, another in zip(load_weights(str(out)).blocks, taught.blocks, moved, strict=True):
        np.testing.assert_allclose(block.beta, (one.beta + another.beta) / 2, atol=1e-4)
    ended = CliRunner().invoke(app, [*once, "--weights", f"{tmp_path / 'one.npz'}+{other}"])
    assert ended.exit_code == 0, ended.output
    pair = load_weights(str(out))
    assert (pair.architecture, len(pair.blocks)) == (replace(taught.architecture, inceptions=2), 2 * len(taught.blocks))
    assert pair.readout
    half = np.concatenate([taught.readout.layers[0][0] / 2] * 2)  # the mean of what the two said goes on
    np.testing.assert_allclose(pair.readout.layers[0][0], half, atol=1e-3)


def test_clips_of_a_data_set_are_heard_but_for_those_of_folds_that_are_held_out(
    pieces: Pieces, teacher: Path, weights_file: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "sound.npz"
    options = ["--teacher", str(teacher), "--out", str(out), "--weights", str(weights_file)]
    small = ["--views", "100", "--epochs", "1", "--last", "mixed0", "--shrink", "2,4", "--cache", str(tmp_path / "c")]
    sounds, clips = tmp_path / "sounds", find_clips(data)
    held_out = ["--data", str(data), "--hold-out", f"{clips[0].fold},{clips[-1].fold}"]
    ended = CliRunner().invoke(app, [str(sounds), *options, *small, *held_out])
    assert ended.exit_code == 0, ended.output
    heard = [clip for clip in clips if clip.fold not in {clips[0].fold, clips[-1].fold}]
    assert 0 < len(heard) < len(clips) - 2
    assert load_weights(str(out)).heard == frozenset(marks([*find_background([sounds]), *heard]))
    for wrong, words in ((["--hold-out", "1"], "name it with --data"), (["--data", str(data), "--hold-out", "9"], "9")):
        ended = CliRunner().invoke(app, [str(sounds), *options, *small, *wrong])
        assert (ended.exit_code, words in ended.stderr) == (2, True)


def test_weights_that_do_not_say_what_they_have_heard_do_not_say_it_after_more_either(
    pieces: Pieces, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def learnt(lesson: Taught, architecture: Architecture, blocks: Any, *_: Any) -> Learnt:
        readout = np.zeros((2 * 256, lesson.outputs), np.float32), np.zeros(lesson.outputs, np.float32)
        return Learnt(blocks[: blocks_needed(architecture.taps)], Head((readout,)), (), 0)

    monkeypatch.setattr("training.finetuning.learner.learn", learnt)  # what it comes to does not count here
    options = ["--teacher", str(teacher), "--out", str(tmp_path / "more.npz"), "--cache", str(tmp_path / "cache")]
    small = ["--views", "100", "--last", "mixed0"]
    starter = load_weights("starter")
    assert starter.architecture
    readout = Head(((np.zeros((2, 3), np.float32), np.zeros(3, np.float32)),))
    save_weights(starter.blocks, starter.architecture, readout, tmp_path / "silent.npz", None, starter.notes)
    for weights in ("starter", str(tmp_path / "silent.npz")):
        ended = CliRunner().invoke(app, [str(tmp_path / "sounds"), *options, "--weights", weights, *small])
        assert ended.exit_code == 0, ended.output
        more = load_weights(str(tmp_path / "more.npz"))
        assert (more.heard is None) == (weights != "starter")
        said = [note for note in more.notes if note not in starter.notes]
        assert set(more.notes) >= set(starter.notes)  # its licence goes with it
        assert ["do not say what they were taught by" in note for note in said] == [True] * (more.heard is None)
        assert more.heard is None or more.heard > (starter.heard or more.heard)


def test_what_is_wrong_with_the_command_is_told_with_the_next_step(tmp_path: Path, teacher: Path) -> None:
    options = ["--teacher", str(teacher), "--out", str(tmp_path / "nowhere" / "sound.npz")]
    ended = CliRunner().invoke(app, [str(tmp_path), *options])
    assert (ended.exit_code, "name a file in a folder that is there" in ended.stderr) == (2, True)


def test_ctrl_c_says_how_to_go_on(
    pieces: Pieces, teacher: Path, weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupts(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.teaching.taught.make_view", interrupts)
    options = ["--teacher", str(teacher), "--out", str(tmp_path / "sound.npz"), "--weights", str(weights_file)]
    small = ["--views", "100", "--last", "mixed0", "--cache", str(tmp_path / "cache")]
    ended = CliRunner().invoke(app, [str(tmp_path / "sounds"), *options, *small])
    assert ended.exit_code == 130
    assert ended.stderr.endswith("earshot: interrupted; the same command goes on where it was\n")


def test_sounds_of_which_none_is_left_to_learn_from_are_refused(tmp_path: Path, teacher: Path) -> None:
    cut, _ = cut_pieces([[Clip(tone(tmp_path / "one.wav"), UNKNOWN, 1, "one")]], tmp_path / "work")
    with pytest.raises(DataError, match="too few sounds"):
        write_views(cut, 100, Teacher(teacher), 0, tmp_path / "views")


def test_weights_without_the_block_that_is_to_be_taught_are_refused_before_any_sound_is_heard(
    tmp_path: Path, teacher: Path
) -> None:
    options = ["--teacher", str(teacher), "--out", str(tmp_path / "sound.npz"), "--cache", str(tmp_path / "cache")]
    ended = CliRunner().invoke(app, [str(tmp_path / "nowhere"), *options, "--weights", "starter", "--last", "mixed10"])
    assert (ended.exit_code, "mixed10" in ended.stderr) == (2, True)


@pytest.mark.parametrize("shrink", ["2", "a,b", "1,2,3", "0,1", "9,9"])
def test_a_shrink_that_is_no_pair_of_numbers_is_told(tmp_path: Path, teacher: Path, shrink: str) -> None:
    options = ["--teacher", str(teacher), "--out", str(tmp_path / "sound.npz"), "--shrink", shrink]
    ended = CliRunner().invoke(app, [str(tmp_path), *options])
    assert (ended.exit_code, "--shrink takes two numbers" in ended.stderr) == (2, True)
