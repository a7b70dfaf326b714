"""The command that teaches weights: what it learns from, what it writes, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

from earshot.labels import UNKNOWN
from serving.network import Architecture, Head, blocks_needed
from tests.training.conftest import write_taught
from tests.training.sounds import tone
from training.data.clips import Clip
from training.data.datasets import DataError, find_background, find_clips
from training.data.heard import marks
from training.distil import app
from training.finetuning.learner import Learnt
from training.teaching.pieces import Pieces, cut_pieces
from training.teaching.taught import Taught, write_views
from training.teaching.teacher import Teacher
from training.weights import load_weights, save_weights

if TYPE_CHECKING:
    from pathlib import Path


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
