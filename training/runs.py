"""A folder for each run of retraining, with all that it came to: runs lie side by side, to be kept and compared.

RUNS/2026-11-23T18-04-05.016284Z/ is named by the time at which its run began, in UTC. It has `settings.json` (with the
seed), `packages.json` (versions), `labels.txt` (class names, one a line), `report.json` and `report.html`, and, of a
run that trained in epochs, `learning_curves.json`. It appears whole, when its run is over.

    python -m training.runs RUNS
"""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from earshot.command import APP, fail
from training.screen import print_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

app = typer.Typer(**APP)

ELSEWHERE = {
    *("report", "run_dir", "summaries_dir", "output_labels", "compact", "model_base_path"),
    *("cache", "bottleneck_dir", "model_dir", "log_level", "log_json"),
}
"""Settings that decide no figure: runs that differ in these alone are the same."""


def write_run(report: Mapping[str, Any], runs: Path) -> Path:
    """Write the folder of the run that `report` is of (see `training.evaluation.report`) into `runs`, and return it."""
    from training.evaluation.report import run_name, write_labels, write_report

    unfinished = runs / f".{uuid.uuid4().hex}"
    unfinished.mkdir()
    try:
        for name in ("settings", "packages", "learning_curves"):
            if report[name]:
                (unfinished / f"{name}.json").write_text(json.dumps(report[name], indent=1) + "\n", encoding="utf-8")
        write_labels(report, unfinished / "labels.txt")
        write_report(report, unfinished / "report.json")
        return unfinished.rename(runs / run_name(report))
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def compared(reports: Mapping[str, Mapping[str, Any]]) -> Iterable[tuple[str, ...]]:
    """A row for each run by its name: its folds, and the figures of all of these as one.

    Figures of other folds than another run's are no comparison. False accepts an hour are of recorded background, then
    of generated one. Last comes the version that it published.
    """
    for run, report in reports.items():
        own = report["pooled"] or report.get("held_out")
        if not own:
            yield (run, *"------", _version(report))
            continue
        heard = {"recorded": own.get("background"), "generated": own.get("generated_background")}
        false = [f"{one['false_accepts_per_hour']:.0f} {kind}" for kind, one in heard.items() if one]
        yield (
            *(run, ",".join(report["folds"]) or "held out", str(own["clips"])),
            *(f"{own['accuracy']:.1%}", f"{own['clip_accuracy']:.1%}", f"{own['calibration']['ece']:.3f}"),
            "\n".join(false) or "-",
            _version(report),
        )


def differing(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Of each run, the settings in which the runs differ."""
    settings = {run: report["settings"] for run, report in reports.items()}
    names = sorted({name for own in settings.values() for name in own} - ELSEWHERE)
    differ = [name for name in names if len({json.dumps(own.get(name)) for own in settings.values()}) > 1]
    return {run: ", ".join(f"{name} {_said(own.get(name))}" for name in differ) for run, own in settings.items()}


def _version(report: Mapping[str, Any]) -> str:
    published = report.get("published")
    return Path(published).name if published else "-"


def _said(setting: object) -> str:
    """A dash where it was left empty, or is one that the run's Earshot did not have."""
    return "-" if setting is None or setting == "" else str(setting)


def _read(file: Path) -> dict[str, Any] | None:
    """The report of a run; None where it is none, such as an evaluation's."""
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return report if isinstance(report, dict) and {"started", "settings", "folds", "pooled"} <= report.keys() else None


@app.command()
def main(runs: Annotated[Path, typer.Argument(help="Folder that `earshot retrain --run-dir` wrote to.")]) -> None:
    """List the runs in a folder, the oldest first: how good each is, and in which settings they differ.

    Accuracy is by a clip's first 3 s, and by the whole of it; false accepts are of an hour of background.
    """
    if not runs.is_dir():
        raise fail(f"{runs} is no folder; `earshot retrain --run-dir FOLDER` writes runs into one")
    files = {file.parent.name: _read(file) for file in sorted(runs.glob("[!.]*/report.json"))}
    reports = {name: report for name, report in files.items() if report}
    console = Console()
    for name in sorted(files.keys() - reports.keys()):
        console.print(Text(f"{name} is left out: its report.json is not that of a run"))
    if not reports:
        raise fail(f"{runs} holds no run; `earshot retrain --run-dir {runs}` writes one")
    names = ("run", "folds", "clips", "3 s", "whole", "ECE", "false/hour", "version")
    table = Table(
        *(Column(name, no_wrap=True) for name in names), box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    for row in compared(reports):
        table.add_row(*map(Text, row))
    print_whole(console, table)
    differences = differing(reports)
    if any(differences.values()):
        console.print("In which settings they differ:")
        for name, said in differences.items():
            console.print(Text(f"{name}  {said}"))


if __name__ == "__main__":
    app()
