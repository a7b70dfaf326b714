"""Retrains the model: clips to bottlenecks to a new head, judged on whole unseen folds, published as the next version.

Runs as `python training/retrain.py`, `python -m training.retrain` and `earshot retrain`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":  # as a file, this folder would come before the project's
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
from rich.console import Console
from rich.table import Table

from earshot.command import fail
from earshot.folders import NotWritable, cache_folder, require_writable
from earshot.spectrogram import DEFAULT_PARAMS
from serving.catalogue import next_version
from serving.compact import CompactModel
from serving.network import Architecture, NetworkError
from training.answers import Answers
from training.bottlenecks import Bottlenecks, Features
from training.calibration import cooled
from training.datasets import DataError, chosen_folds, clips_of, thin_classes
from training.head import train_head
from training.metrics import calibration, judge, rows
from training.publishing import model_card, publish, training_record
from training.report import package_versions, report_files, write_report
from training.weights import WeightsError, load_weights

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from training.clips import Clip
    from training.head import TrainedHead
    from training.settings import RetrainSettings


def run(settings: RetrainSettings) -> None:
    """Retrain the model on labelled clips, print and write what was measured, and publish what was asked for."""
    console = Console()
    try:
        report = retrain(settings, console)
    except (DataError, WeightsError, NetworkError, NotWritable) as error:
        raise fail(error) from None
    except OSError as error:
        raise fail(f"{error}; mend that and start again, the cache keeps what was computed") from None
    if settings.report:
        _write(report, settings.report)


def retrain(settings: RetrainSettings, console: Console) -> dict[str, Any]:
    """The whole job; returns the report as JSON values. Raises DataError, WeightsError, NetworkError or NotWritable."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    clips = clips_of(settings)
    thin = thin_classes(clips)
    if thin:
        few = ", ".join(f"{label} ({sources})" for label, sources in thin.items())
        console.print(f"Classes of few recordings, whose figures say little: {few}")
    held_out, judged = chosen_folds(settings.hold_out, clips), chosen_folds(settings.evaluate, clips)
    _check_before_the_work(settings, clips, held_out, judged)
    weights = load_weights(settings.weights)
    architecture = Architecture(tuple(settings.taps.split(",")), settings.bands, weights.input_range)
    cache = settings.cache or cache_folder() / "bottlenecks"
    seconds = {}
    started = time.monotonic()
    features, unreadable = Bottlenecks(weights, architecture, cache, settings.batch).of(clips)
    seconds["bottlenecks"] = round(time.monotonic() - started, 1)
    class_names = tuple(sorted({clip.label for clip in features}))
    for fold in (*judged, *held_out):
        if not any(clip.fold == fold for clip in features):
            raise DataError(f"no clip of fold {fold} can be read, so nothing can be judged on it: {unreadable[0]}")

    folds, answers, before = {}, [], []
    started = time.monotonic()
    for fold in judged:
        trained = train(features, {fold}, class_names, settings)
        unseen, uncalibrated = _answers(trained, features, {fold}, class_names)
        answers.append(unseen)
        before.append(uncalibrated)
        folds[str(fold)] = {**_chosen(trained), **_judged(unseen, uncalibrated), "answers": rows(unseen)}
    seconds["evaluation"] = round(time.monotonic() - started, 1)

    report: dict[str, Any] = {
        "title": f"Retraining on {', '.join(folder.name for folder in settings.folders)}",
        "settings": settings.model_dump(mode="json"),
        "weights": weights.name,
        "class_names": class_names,
        "clips": len(features),
        "unreadable": unreadable,
        "thin_classes": thin,
        "folds": folds,
        "pooled": _judged(Answers.pooled(answers), Answers.pooled(before)) if answers else None,
        "seconds": seconds,
        "packages": package_versions(),
    }
    _print(console, report)
    if settings.model_dir or settings.compact:
        started = time.monotonic()
        trained = train(features, set(held_out), class_names, settings)
        if held_out:
            unseen, uncalibrated = _answers(trained, features, set(held_out), class_names)
            report["held_out"] = {**_chosen(trained), **_judged(unseen, uncalibrated), "answers": rows(unseen)}
            console.print(f"published model on folds {settings.hold_out}: {report['held_out']['accuracy']:.1%}")
        card = model_card(report, held_out)
        model = CompactModel(
            architecture, weights.blocks, trained.head, class_names, DEFAULT_PARAMS, card, trained.thresholds
        )
        seen = [clip for clip in features if clip.fold not in held_out]
        publish(settings, model, training_record(report, settings, weights, seen, held_out), console)
        seconds["publishing"] = round(time.monotonic() - started, 1)
    return report


def _check_before_the_work(
    settings: RetrainSettings, clips: list[Clip], held_out: list[int], judged: list[int]
) -> None:
    """Find now what would else end the run after minutes or hours; raises DataError, NetworkError or NotWritable."""
    Architecture(tuple(settings.taps.split(",")), settings.bands)  # before weights are fetched
    for fold in judged:
        _require_two_classes(clips, {fold})
    if settings.model_dir or settings.compact:
        _require_two_classes(clips, set(held_out))
    targets = [settings.compact, *(report_files(settings.report) if settings.report else ())]
    if settings.model_dir:
        settings.model_dir.mkdir(parents=True, exist_ok=True)
        targets.append(next_version(settings.model_dir))
    for target in filter(None, targets):
        require_writable(target)


def _require_two_classes(clips: Iterable[Clip], without: set[int]) -> None:
    """Raise DataError where the clips that are not in the folds `without` leave nothing to tell apart."""
    left = [clip for clip in clips if clip.fold not in without]
    classes, recordings = len({clip.label for clip in left}), len({clip.source for clip in left})
    if min(classes, recordings) < 2:
        outside = f" outside fold {', '.join(map(str, sorted(without)))}" if without else ""
        raise DataError(
            f"there are {recordings} recordings of {classes} classes{outside}, training needs two of two: "
            "add clips, or name fewer folds with --evaluate and --hold-out"
        )


def _answers(
    trained: TrainedHead, features: Mapping[Clip, Features], folds: set[int], class_names: tuple[str, ...]
) -> tuple[Answers, Answers]:
    """What a head answers for the clips of `folds`, and what it would have answered before it was calibrated."""
    unseen = {clip: one for clip, one in features.items() if clip.fold in folds}
    before = cooled(trained.head, 1 / trained.temperature)
    return (
        Answers.of(trained.head, unseen, class_names, trained.thresholds),
        Answers.of(before, unseen, class_names),
    )


def _judged(answers: Answers, before: Answers) -> dict[str, Any]:
    return {**judge(answers), "calibration_before": calibration(before)}


def _chosen(trained: TrainedHead) -> dict[str, Any]:
    """What training chose on its own clips, for the report."""
    return {
        "strength": trained.strength,
        "temperature": round(trained.temperature, 3),
        "thresholds": [round(threshold, 4) for threshold in trained.thresholds],
    }


def train(
    features: Mapping[Clip, Features], without: set[int], class_names: tuple[str, ...], settings: RetrainSettings
) -> TrainedHead:
    """A head trained on every window of all clips that are not in the folds `without`.

    Raises DataError where these are too few.
    """
    _require_two_classes(features, without)
    rows, targets, groups = [], [], []
    for clip, one in features.items():
        if clip.fold not in without:
            own = [*one.heard, *one.pre_rolled]
            rows += own
            targets += [class_names.index(clip.label)] * len(own)
            groups += [clip.source] * len(own)
    return train_head(np.stack(rows), np.array(targets), groups, len(class_names), settings.seed, settings.precision)


def _write(report: dict[str, Any], path: Path) -> None:
    try:
        write_report(report, path)
    except OSError as error:
        sys.stdout.write(json.dumps(report, indent=1) + "\n")
        raise fail(f"cannot write {path} ({error.strerror}); the report is on the standard output instead") from None


def _print(console: Console, report: dict[str, Any]) -> None:
    if report["unreadable"]:
        console.print(f"{len(report['unreadable'])} clips could not be read; they are in the report")
    if not report["folds"]:
        return
    table = Table(title="Whole folds, each unseen by the head that it judges", title_justify="left")
    for name in ("fold", "clips", "first 3 s", "whole clip", "ECE", "unknown", "L2"):
        table.add_column(name, justify="right")
    for fold, one in report["folds"].items():
        table.add_row(
            fold,
            str(one["clips"]),
            f"{one['accuracy']:.1%}",
            f"{one['clip_accuracy']:.1%}",
            f"{one['calibration']['ece']:.3f}",
            f"{one['unknown']['share'] if one['unknown'] else 0:.1%}",
            f"{one['strength']:g}",
        )
    console.print(table)


if __name__ == "__main__":
    from earshot.cli import component

    component("retrain")
