"""What a run leaves behind, in a folder of its own."""

from __future__ import annotations

import io
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console
from rich.table import Table
from typer.testing import CliRunner

from tests.training.conftest import CLASSES
from training.evaluation.page import page
from training.runs import app, compared, differing, write_run
from training.screen import print_whole

if TYPE_CHECKING:
    from pathlib import Path

SAID = CliRunner()


def report(accuracy: float = 0.5, **settings: Any) -> dict[str, Any]:
    pooled = {"clips": 12, "accuracy": accuracy, "clip_accuracy": 0.625, "calibration": {"ece": 0.125}}
    return {
        "started": "2026-11-23T18:04:05.016284Z",
        "title": "Retraining",
        "settings": {"data": "/data", "seed": 3, "report": "a", **settings},
        "class_names": CLASSES,
        "clips": 24,
        "background_clips": 0,
        "unreadable": [],
        "folds": {"1": pooled, "2": pooled},
        "pooled": pooled,
        "learning_curves": [{"epoch": 1, "loss, fold 1": 2.0}],
        "seconds": {"weights": 1.0},
        "peak_memory_mb": {"weights": 900},
        "packages": {"numpy": "2"},
    }


def written(one: dict[str, Any], runs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with monkeypatch.context() as patch:  # a page of so short a report cannot be drawn
        patch.setattr("training.evaluation.report.page", lambda run: page({**run, "folds": {}, "pooled": None}))
        return write_run(one, runs)


def test_a_run_is_a_folder_named_by_its_time_with_all_that_it_came_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = report()
    folder = written(one, tmp_path, monkeypatch)
    assert folder == tmp_path / "2026-11-23T18-04-05.016284Z"
    assert json.loads((folder / "settings.json").read_text()) == one["settings"]
    assert json.loads((folder / "packages.json").read_text()) == {"numpy": "2"}
    assert json.loads((folder / "learning_curves.json").read_text()) == one["learning_curves"]
    assert (folder / "labels.txt").read_text().split() == list(CLASSES)
    assert json.loads((folder / "report.json").read_text()) == json.loads(json.dumps(one))
    assert "<h2>Learning curves</h2>" in (folder / "report.html").read_text()
    assert list(tmp_path.iterdir()) == [folder]


def test_a_run_without_epochs_has_no_learning_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written({**report(), "learning_curves": []}, tmp_path, monkeypatch)
    assert not (folder / "learning_curves.json").exists()


def test_a_folder_that_cannot_be_finished_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.evaluation.report.page", full)
    with pytest.raises(OSError, match="No space"):
        write_run(report(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_runs_are_compared_by_their_figures_and_by_the_settings_in_which_they_differ() -> None:
    nothing: dict[str, Any] = {"folds": {}, "pooled": None}
    published = {**report(0.75, seed=4, report="b"), "published": "models/7"}
    reports = {"a": report(), "b": published, "c": {**report(), **nothing}}
    assert list(compared(reports)) == [
        ("a", "1,2", "12", "50.0%", "62.5%", "0.125", "-", "-"),
        ("b", "1,2", "12", "75.0%", "62.5%", "0.125", "-", "7"),
        ("c", "-", "-", "-", "-", "-", "-", "-"),
    ]
    assert differing(reports) == {"a": "seed 3", "b": "seed 4", "c": "seed 3"}
    both = {"a": report(taps=""), "b": report(taps="mixed3", learning_rate=0.1)}
    assert differing(both) == {"a": "learning_rate -, taps -", "b": "learning_rate 0.1, taps mixed3"}


def test_runs_are_compared_by_their_false_accepts_of_recorded_and_of_generated_background() -> None:
    quiet, loud = report(), report()
    quiet["pooled"]["generated_background"] = {"false_accepts_per_hour": 0.0}
    loud["pooled"]["background"] = {"false_accepts_per_hour": 139.6}
    loud["pooled"]["generated_background"] = {"false_accepts_per_hour": 12.2}
    rows = compared({"quiet": quiet, "loud": loud, "neither": report()})
    assert [row[-2] for row in rows] == ["0 generated", "140 recorded\n12 generated", "-"]


def test_a_run_that_only_published_is_compared_by_the_folds_that_its_model_never_saw() -> None:
    one = report()
    (row,) = compared({"a": {**one, "folds": {}, "pooled": None, "held_out": one["pooled"]}})
    assert row[1:4] == ("held out", "12", "50.0%")


def test_the_command_lists_them_and_names_what_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = SAID.invoke(app, [str(tmp_path)])
    assert nothing.exit_code == 2
    assert "holds no run" in nothing.output
    assert "is no folder" in SAID.invoke(app, [str(tmp_path / "report.json")]).output
    written(report(data="/data/[/old]clips"), tmp_path, monkeypatch)
    written({**report(seed=4), "started": "2026-11-24T18:04:05.016284Z"}, tmp_path, monkeypatch)
    for number, text in enumerate(
        ["", "{", "[]", "null", "{}", "[" * 100_000, '{"started": 1, "settings": {}, "folds": {}}']
    ):
        (tmp_path / f"broken{number}").mkdir()
        (tmp_path / f"broken{number}" / "report.json").write_text(text)
    (tmp_path / "broken7" / "report.json").mkdir(parents=True)
    shutil.copytree(tmp_path / "2026-11-23T18-04-05.016284Z", tmp_path / ".5f")  # one that is being written
    listed = SAID.invoke(app, [str(tmp_path)])
    assert listed.exit_code == 0
    assert ".5f" not in listed.output
    assert "2026-11-23T18-04-05.016284Z" in listed.output
    assert "50.0%" in listed.output
    assert "/data/[/old]clips" in listed.output
    assert [f"broken{number} is left out" in listed.output for number in range(8)] == [True] * 8


def test_a_table_is_not_cut_off_where_the_terminal_ends() -> None:
    said = io.StringIO()
    console = Console(file=said, width=20)
    table = Table("a column with a long name", "another one", title="figures")
    table.add_row("2026-11-23T18-04-05Z", "0.125")
    print_whole(console, table)
    assert all(text in said.getvalue() for text in ("a column with a long name", "2026-11-23T18-04-05Z", "0.125"))
    assert console.width == 20
