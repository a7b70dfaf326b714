"""Judges a model that is served, or lies in a folder, on labelled clips that it should not have been trained on.

Runs as `python training/evaluate.py`, `python -m training.evaluate` and `earshot evaluate`.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":  # as a file, this folder would come before the project's
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
from rich.console import Console
from rich.table import Table

from earshot.command import fail, interrupted
from earshot.folders import NotWritable, require_writable
from earshot.labels import UNKNOWN
from processors.predictor import PredictError
from training.data.background import counted
from training.data.datasets import DataError, chosen_folds, clips_of
from training.data.heard import count_heard, heard_recordings, too_kind
from training.evaluation.asking import ask
from training.evaluation.judged import NoModel, saved_model, served_model
from training.evaluation.metrics import by_chance, judge, rows
from training.evaluation.report import package_versions, printed_instead, report_files, write_report
from training.stages import Stages

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from training.data.clips import Clip
    from training.evaluation.judged import Judged
    from training.settings import EvaluateSettings


def run(settings: EvaluateSettings) -> None:
    """Judge the model, print what was measured, and write the report that was asked for."""
    console = Console(markup=False)  # a class, or a folder, may have brackets in its name
    try:
        report = evaluate(settings, console)
    except (DataError, NoModel, PredictError, NotWritable, OSError) as error:
        raise fail(error) from None
    except KeyboardInterrupt:
        raise interrupted("nothing was written; the same command begins anew") from None
    _print(console, report)
    if settings.report:
        try:
            for file in write_report(report, settings.report):
                console.print(f"wrote {file}", soft_wrap=True)
        except OSError as error:
            raise printed_instead(report, f"cannot write {settings.report} ({error.strerror})") from None


def evaluate(settings: EvaluateSettings, console: Console) -> dict[str, Any]:
    """The whole job; returns the report as JSON values. Raises DataError, NoModel, PredictError or NotWritable."""
    clips = clips_of(settings, least_classes=1, whole_map=False)
    folds = chosen_folds(settings.folds, clips)
    chosen = clips if settings.folds == "all" else [clip for clip in clips if clip.fold in folds]
    if not chosen:
        raise DataError(f"--folds {settings.folds} leaves no clip; name folds as 1,2, or all")
    for file in report_files(settings.report) if settings.report else ():
        require_writable(file)
    stages = Stages()
    with ExitStack() as stack:
        with stages.stage("model"):
            model = stack.enter_context(_model(settings))
            _require_common_class(model, chosen)
        with stages.stage("answers"):
            answers, unreadable = ask(model, chosen, settings.batch, console)
    if not len(answers.of_classes):
        raise DataError(f"no clip of a class can be read, only {UNKNOWN} ones; --data names labelled clips")
    heard = set(answers.clips)
    seen = count_heard(model.recordings or (), heard)
    answers = replace(answers, thresholds=np.maximum(answers.thresholds, np.float32(settings.threshold)))
    parts = {fold: answers.of_fold(fold) for fold in folds}
    pooled = judge(answers)
    notes = [*model.notes, *too_kind(heard_recordings(model.heard, heard), heard)]
    if model.recordings is None:
        notes.insert(0, "The model does not say what it was trained on, so these clips may be no news to it")
    if seen:
        trained_on = f"The model was trained on the recordings of {seen} of these {len(answers.of_classes)} clips"
        notes.append(f"{trained_on}: figures are too kind")
    notes += pooled["notes"]
    if settings.background and not len(answers.of_background):
        notes.append(f"No false accepts are counted: {_why_no_background(settings.folds, chosen)}")
    pooled["notes"] = notes
    return {
        "title": f"Evaluation of {model.name}" + (f", version {model.version}" if model.version else ""),
        "settings": settings.model_dump(mode="json"),
        "class_names": model.class_names,
        **counted(heard),
        "unreadable": unreadable,
        "folds": {
            str(fold): {**judge(part), "answers": rows(part)} for fold, part in parts.items() if len(part.of_classes)
        },
        "pooled": pooled,
        "seconds": stages.seconds,
        "peak_memory_mb": stages.peak_memory_mb,
        "packages": package_versions(),
    }


def _why_no_background(folds: str, chosen: Sequence[Clip]) -> str:
    if any(clip.label == UNKNOWN for clip in chosen):
        return "no recording of background can be read"
    return f"no recording of background is dealt into --folds {folds}; --folds all asks about every one"


def _model(settings: EvaluateSettings) -> AbstractContextManager[Judged]:
    if (settings.model is None) == (not settings.model_server):
        raise NoModel("name one model: --model takes a folder, --model-server the address of a server that serves it")
    return saved_model(settings.model) if settings.model else served_model(settings.model_server, settings.model_name)


def _require_common_class(model: Judged, clips: Sequence[Clip]) -> None:
    labels = sorted({clip.label for clip in clips} - {UNKNOWN})
    if not labels:
        raise DataError("all clips are of background; name clips of classes with --data, and background beside them")
    if not set(labels) & set(model.class_names):
        raise DataError(
            f"the clips are of {', '.join(labels)}, and {model.name} knows none of them but "
            f"{', '.join(model.class_names)}; name clips of its classes with --data"
        )


def _print(console: Console, report: dict[str, Any]) -> None:
    pooled = report["pooled"]
    console.print(report["title"], soft_wrap=True)
    for note in pooled["notes"]:
        console.print(note, soft_wrap=True)
    table = Table()
    for name in ("class", "clips", "precision", "recall", "F1"):
        table.add_column(name, justify="left" if name == "class" else "right")
    for name, one in pooled["classes"].items():
        shown = ("-" if one[key] is None else f"{one[key]:.3f}" for key in ("precision", "recall", "f1"))
        table.add_row(name, str(one["support"]), *shown)
    console.print(table)
    if report["unreadable"]:
        where = "they are in the report" if report["settings"]["report"] else "the log names them"
        console.print(f"{len(report['unreadable'])} clips could not be read; {where}")
    interval = " to ".join(f"{share:.1%}" for share in pooled["accuracy_95"] or ())
    error = pooled["calibration"]
    console.print(
        f"{pooled['clips']} clips: first 3 s {pooled['accuracy']:.1%} right{interval and f' (95 %: {interval})'}, "
        f"whole clips {pooled['clip_accuracy']:.1%}, macro F1 {pooled['macro_f1']:.3f}, "
        f"calibration error {error['ece']:.3f}{by_chance(error)}",
        soft_wrap=True,
    )
    if pooled["unknown"]:
        right = pooled["unknown"]["accuracy_of_answered"]
        others = "" if right is None else f", {right:.1%} of the others right"
        console.print(f"labels: {pooled['labels_right']:.1%} right, {pooled['unknown']['share']:.1%} {UNKNOWN}{others}")
    if pooled["background"]:
        heard = pooled["background"]
        named = ", ".join(f"{count} {name}" for name, count in heard["named"].items())
        console.print(
            f"{heard['false_accepts_per_hour']} false accepts an hour of background, "
            f"{heard['false_accepts']} of {heard['segments']} segments{named and f': {named}'}",
            soft_wrap=True,
        )


if __name__ == "__main__":
    from earshot.cli import component

    component("evaluate")
