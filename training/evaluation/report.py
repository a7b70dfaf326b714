"""Writes the report of a run: a page for people, and the same values as JSON for programs.

A report is JSON values: `title`; `class_names`; `clips` of a class, how many were read, `background_clips`, how many of
none, and `unreadable`, a line for each that was not; `folds`, what `evaluation.metrics` makes of each one, with every
clip's row as `answers`; `pooled`, the same of all folds as one but for the rows, or None; `seconds` of each stage, and
`peak_memory_mb` of the process up to its end; `settings`; `packages`.

That of a retraining has more: `started`, when it began; `weights`, `architecture` and `recipe`, what was trained;
`thin_classes`, the recordings of each class that has few; in what was judged `calibration_before`, as scores were
before they were calibrated; `random_split`, what is made of the tutorial's split as of a fold, or None; `published`,
the folder of the version that it published, or None, and `notes` of that; `held_out`, as of a fold, where folds were
kept from it; and, if it trained in epochs, `learning_curves`: a list of {epoch, name: value}, of the models that were
judged and of the published one.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from earshot.command import fail
from earshot.folders import NotWritable
from serving.wholefile import whole_file
from training.evaluation.page import page

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import typer

PACKAGES = (
    *("earshot", "keras", "librosa", "matplotlib", "numpy", "scikit-learn", "scipy", "soxr"),
    *("tensorflow", "tensorflow-cpu"),  # one of the two is installed
)


def run_name(report: Mapping[str, Any]) -> str:
    """What the folder of the run is called that `report` is of: two never begin in one microsecond."""
    return str(report["started"].replace(":", "-"))


def report_files(file: Path) -> tuple[Path, Path]:
    """The JSON and the page of a report that was asked for under the name of either; raises NotWritable."""
    if file.name in {"", ".."}:
        raise NotWritable(f"{file} is a folder; --report names a file, such as {file / 'report.json'}")
    stem = file.with_suffix("") if file.suffix in {".json", ".html"} else file
    return stem.with_name(f"{stem.name}.json"), stem.with_name(f"{stem.name}.html")


def write_report(report: Mapping[str, Any], file: Path) -> tuple[Path, Path]:
    """Write both files, each whole or not at all, the JSON first, and return their paths."""
    values, html = report_files(file)
    with whole_file(values) as opened:
        opened.write((json.dumps(report, indent=1) + "\n").encode())
    text = page(report)
    with whole_file(html) as opened:
        opened.write(text.encode("utf-8", errors="replace"))  # a file's name may be bytes that are no text
    return values, html


def write_labels(report: Mapping[str, Any], file: Path) -> tuple[Path]:
    """Write the class names, one a line, as the file of that name, whole or not at all, and return its path."""
    with whole_file(file) as opened:
        opened.write("".join(f"{name}\n" for name in report["class_names"]).encode())
    return (file,)


def printed_instead(report: Mapping[str, Any], *faults: str) -> typer.Exit:
    """What ends a command whose report could not be written for these `faults`: it is printed, and so not lost."""
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    return fail(f"{'; '.join(faults)}; the report is on the standard output instead")


def package_versions() -> dict[str, str]:
    """Versions of Python and of what decides the figures."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
