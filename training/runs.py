"""A folder for each run of retraining, with all that it came to: runs lie side by side, to be kept and compared.

RUNS/2026-11-23T18-04-05Z/ is named by the time at which its run began, in UTC. It has `settings.json` (with the seed),
`packages.json` (versions), `labels.txt` (class names, one a line), `report.json` and `report.html`, and, of a run that
trained in epochs, `learning_curves.json`. It appears whole, when its run is over.

    python -m training.runs RUNS
"""

from __future__ import annotations

import json
import shutil
import uuid
from contextlib import suppress
from itertools import count
from pathlib import Path  # noqa: TC003 - typer reads the annotation
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from earshot.command import APP, fail

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

app = typer.Typer(**APP)

ELSEWHERE = {
    *("report", "run_dir", "summaries_dir", "output_labels", "compact", "model_base_path"),
    *("cache", "bottleneck_dir", "log_level", "log_json"),
}
"""Settings that decide no figure: runs that differ in these alone are the same."""


def write_run(report: Mapping[str, Any], runs: Path) -> Path:
    """Write the folder of the run that `report` is of (see `training.report`) into `runs`, and return it."""
    from training.report import write_report

    unfinished = runs / f".{uuid.uuid4().hex}"
    unfinished.mkdir()
    try:
        for name in ("settings", "packages", "learning_curves"):
            if report[name]:
                (unfinished / f"{name}.json").write_text(json.dumps(report[name], indent=1) + "\n", encoding="utf-8")
        labels = "".join(f"{name}\n" for name in report["class_names"])
        (unfinished / "labels.txt").write_text(labels, encoding="utf-8")
        write_report(report, unfinished / "report.json")
        again = ("" if number == 1 else f"-{number}" for number in count(1))  # two runs may begin in one second
        folders = (runs / (report["started"].replace(":", "-") + end) for end in again)
        return unfinished.rename(next(folder for folder in folders if not folder.exists()))
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def compared(reports: Mapping[str, Mapping[str, Any]]) -> Iterable[tuple[str, ...]]:
    """A row for each run by its name: its folds, the figures of all of these as one, and the settings that differ.

    Figures of other folds than another run's are no comparison. False accepts an hour are of recorded background, then
    of generated one.
    """
    settings = [one["settings"] for one in reports.values()]
    names = sorted({name for each in settings for name in each} - ELSEWHERE)
    differing = [name for name in names if len({json.dumps(each.get(name)) for each in settings}) > 1]
    for run, report in reports.items():
        own = report["pooled"] or report.get("held_out")
        folds = ",".join(report["folds"]) or ("held out" if own else "-")
        figures = ("-", "-", "-", "-")
        if own:
            heard = (own.get("background"), own.get("generated_background"))
            figures = (
                f"{own['accuracy']:.1%}",
                f"{own['clip_accuracy']:.1%}",
                f"{own['calibration']['ece']:.3f}",
                "\n".join(f"{one['false_accepts_per_hour']:.0f}" for one in heard if one) or "-",
            )
        said = "\n".join(f"{name} {_said(report['settings'].get(name))}" for name in differing)
        yield (run, str(report["clips"]), folds, *figures, said)


def _said(setting: object) -> str:
    """A dash where it was left empty, or is one that the run's Earshot did not have."""
    return "-" if setting is None or setting == "" else str(setting)


@app.command()
def main(runs: Annotated[Path, typer.Argument(help="Folder that `earshot retrain --run-dir` wrote to.")]) -> None:
    """List the runs in a folder, the oldest first: how good each is, and in which settings they differ."""
    reports: dict[str, Any] = {}
    for file in sorted(runs.glob("*/report.json")):
        with suppress(ValueError):
            reports[file.parent.name] = json.loads(file.read_text(encoding="utf-8"))
    if not reports:
        raise fail(f"{runs} holds no run; `earshot retrain --run-dir {runs}` writes one")
    figures = ("clips", "folds", "first\n3 s", "whole\nclip", "ECE", "false\n/hour")
    table = Table(
        Column("run", no_wrap=True),
        *(Column(name, no_wrap=True) for name in figures),
        Column("settings that differ", overflow="fold"),
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for row in compared(reports):
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    app()
