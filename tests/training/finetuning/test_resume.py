"""What is kept of an unfinished fine-tuning, and that going on from it changes nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
from structlog.testing import capture_logs

from tests.training.finetuning.conftest import PATIENT, SCHEDULE, tune, values
from training.finetuning.checkpoint import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from training.finetuning.finetune import Examples, Schedule
    from training.finetuning.learner import Learnt
    from training.weights import Weights


def test_a_run_that_would_have_ended_early_does_so_after_it_was_cut_off(
    examples: Examples, contrary: Examples, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uncut = tune(examples, weights, tmp_path / "uncut", PATIENT, validation=contrary)
    for last in (uncut.best, len(uncut.history)):  # the best one and the last one were just kept
        run = partial(tune, examples, weights, tmp_path / f"cut-{last}", PATIENT, validation=contrary)
        cut_off_after(last, run, monkeypatch)
        again = run()
        assert (again.history, again.best) == (uncut.history, uncut.best)
        for one, other in zip(values(again), values(uncut), strict=True):
            np.testing.assert_array_equal(one, other)


def cut_off_after(epochs: int, run: Callable[[], Learnt], monkeypatch: pytest.MonkeyPatch) -> None:
    keep = Checkpoint.keep

    def cut_off(self: Checkpoint, done: int, history: list[dict[str, float]]) -> None:
        keep(self, done, history)
        if done == epochs:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "keep", cut_off)
        with pytest.raises(KeyboardInterrupt):
            run()


@pytest.mark.parametrize("epoch", range(1, SCHEDULE.epochs + 1))
def test_a_run_that_is_cut_off_at_any_epoch_ends_with_the_same_weights(
    epoch: int,
    whole: Learnt,
    examples: Examples,
    unseen: Examples,
    weights: Weights,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cut_off_after(epoch, lambda: tune(examples, weights, tmp_path, validation=unseen), monkeypatch)
    with capture_logs() as lines:
        again = tune(examples, weights, tmp_path, validation=unseen)
    assert lines[0].items() >= {"event": "goes on from the state kept here", "epochs": epoch}.items()
    assert again.history == whole.history
    for one, other in zip(values(again), values(whole), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_process_that_is_killed_within_an_epoch_goes_on_in_another_to_the_same_weights(
    whole: Learnt, weights_file: Path, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.training.finetuning.until_killed",
        str(weights_file),
        str(tmp_path / "kept"),
    ]
    killed = subprocess.run([*command, "none.npz", "2", "1"], check=False)
    assert killed.returncode == -signal.SIGKILL
    again = subprocess.run([*command, str(tmp_path / "learnt.npz")], check=True, stdout=subprocess.PIPE, text=True)
    assert "goes on from the state kept here" in again.stdout
    with np.load(tmp_path / "learnt.npz") as learnt:
        for one, other in zip(learnt.values(), values(whole), strict=True):
            np.testing.assert_array_equal(one, other)


def test_where_norms_measure_a_run_that_is_cut_off_ends_with_the_same_weights(
    examples: Examples, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measuring = replace(SCHEDULE, epochs=2, norms=True)
    uncut = tune(examples, weights, tmp_path / "uncut", measuring)
    run = partial(tune, examples, weights, tmp_path / "cut", measuring)
    cut_off_after(1, run, monkeypatch)
    for one, other in zip(values(run()), values(uncut), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("schedule", [SCHEDULE, replace(SCHEDULE, norms=True), PATIENT], ids=str)
def test_of_a_run_that_is_over_what_it_came_to_is_kept_and_no_more(
    examples: Examples,
    contrary: Examples,
    weights: Weights,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    schedule: Schedule,
) -> None:
    state, sizes = tmp_path / "state.npz", []
    keep = Checkpoint.keep

    def sized(self: Checkpoint, done: int, history: list[dict[str, float]]) -> None:
        keep(self, done, history)
        sizes.append(state.stat().st_size)

    monkeypatch.setattr(Checkpoint, "keep", sized)
    first = tune(examples, weights, tmp_path, schedule, validation=contrary)
    assert len(sizes) == len(first.history)
    assert state.stat().st_size < min(sizes) / 4  # weights, where there were also two moments and a double of each
    monkeypatch.setattr("training.finetuning.finetune.augment", None)  # nothing is learnt from any more
    monkeypatch.setattr("training.finetuning.finetune.never_seen", None)  # nor is a head to begin with asked for
    again = tune(examples, weights, tmp_path, schedule, validation=contrary)
    assert (again.history, again.best) == (first.history, first.best)
    for one, other in zip(values(first), values(again), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_state_of_another_run_is_not_gone_on_from(examples: Examples, weights: Weights, tmp_path: Path) -> None:
    one = replace(SCHEDULE, epochs=1)
    first = tune(examples, weights, tmp_path, one, seed=1)
    second = tune(examples, weights, tmp_path, one, seed=2)
    assert len(second.history) == 1
    assert not np.array_equal(first.head.layers[0][0], second.head.layers[0][0])


def test_a_finished_state_that_is_broken_is_begun_anew_and_ends_with_the_same_weights(
    whole: Learnt, examples: Examples, unseen: Examples, weights: Weights, tmp_path: Path
) -> None:
    tune(examples, weights, tmp_path, validation=unseen)
    state = bytearray((tmp_path / "state.npz").read_bytes())
    state[len(state) // 4] ^= 0xFF  # within some array of weights
    (tmp_path / "state.npz").write_bytes(state)
    with capture_logs() as lines:
        again = tune(examples, weights, tmp_path, validation=unseen)
    assert "broken" in lines[0]["event"]
    assert again.history == whole.history
    for one, other in zip(values(again), values(whole), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_broken_state_is_begun_anew(examples: Examples, weights: Weights, tmp_path: Path) -> None:
    (tmp_path / "state.npz").write_bytes(b"PK\x03\x04 cut off")
    assert len(tune(examples, weights, tmp_path, replace(SCHEDULE, epochs=1)).history) == 1


def test_the_state_of_a_run_from_other_weights_is_not_gone_on_from(
    whole: Learnt, examples: Examples, unseen: Examples, weights: Weights, tmp_path: Path
) -> None:
    first, *others = weights.blocks
    changed = replace(weights, blocks=(replace(first, kernel=first.kernel * 1.5), *others))
    tune(examples, changed, tmp_path, validation=unseen)
    again = tune(examples, weights, tmp_path, validation=unseen)
    assert all(np.array_equal(one, other) for one, other in zip(values(again), values(whole), strict=True))
