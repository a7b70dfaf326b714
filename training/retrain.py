"""Retrains the model: a new head or the whole network, judged on whole unseen folds, published as the next version.

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

from rich.console import Console
from rich.table import Table

from earshot.command import fail
from earshot.folders import NotWritable, cache_folder, require_writable
from earshot.spectrogram import DEFAULT_PARAMS
from serving.catalogue import next_version
from serving.compact import CompactModel
from serving.network import NetworkError
from training.datasets import DataError, chosen_folds, clips_of, thin_classes
from training.frozen import FrozenRecipe
from training.judging import judged_without, pooled, random_split
from training.page import WHY_RANDOM_IS_HIGHER
from training.publishing import model_card, publish, training_record
from training.report import package_versions, report_files, write_report
from training.weights import WeightsError, load_weights

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from training.clips import Clip
    from training.recipe import Recipe, Trained
    from training.settings import RetrainSettings
    from training.weights import Weights


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
    if settings.method == "finetune":  # TensorFlow leaves oneDNN off on some CPUs, where it trains up to twice as fast
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    clips = clips_of(settings)
    thin = thin_classes(clips)
    if thin:
        few = ", ".join(f"{label} ({sources})" for label, sources in thin.items())
        console.print(f"Classes of few recordings, whose figures say little: {few}")
    held_out, judged = chosen_folds(settings.hold_out, clips), chosen_folds(settings.evaluate, clips)
    _check_before_the_work(settings, clips, held_out, judged)
    weights = load_weights(settings.weights)
    seconds = {}
    started = time.monotonic()
    recipe = _recipe(settings, clips, weights)
    seconds["features"] = round(time.monotonic() - started, 1)
    class_names = tuple(sorted({clip.label for clip in recipe.clips}))
    _check_what_is_readable(recipe, held_out, judged)
    judgements, curves = {}, []
    started = time.monotonic()
    for fold in judged:
        judgements[str(fold)] = judged_without(recipe, _of_folds(recipe, {fold}), class_names)
        curves += _curves(judgements[str(fold)].trained, f"fold {fold}")
    tested = random_split(recipe.clips) if settings.protocol == "random" else []
    if settings.protocol == "random" and not (tested and _tells_apart(set(recipe.clips) - set(tested))):
        console.print("There are too few clips for a random split")
        tested = []
    split = judged_without(recipe, tested, class_names).figures() if tested else None
    seconds["evaluation"] = round(time.monotonic() - started, 1)

    report: dict[str, Any] = {
        "title": f"Retraining on {', '.join(folder.name for folder in settings.folders)}",
        "settings": settings.model_dump(mode="json"),
        "weights": weights.name,
        "class_names": class_names,
        "architecture": recipe.architecture.to_json(),
        "recipe": recipe.about,
        "clips": len(recipe.clips),
        "unreadable": list(recipe.unreadable),
        "thin_classes": thin,
        "folds": {fold: one.figures() for fold, one in judgements.items()},
        "pooled": pooled(list(judgements.values())) if judgements else None,
        "random_split": split,
        "learning_curves": curves,
        "seconds": seconds,
        "packages": package_versions(),
    }
    _print(console, report)
    if settings.model_dir or settings.compact:
        started = time.monotonic()
        unseen = judged_without(recipe, _of_folds(recipe, set(held_out)), class_names)
        trained = unseen.trained
        if held_out:
            report["held_out"] = unseen.figures()
            console.print(f"published model on folds {settings.hold_out}: {report['held_out']['accuracy']:.1%}")
        card = model_card(report, held_out)
        model = CompactModel(
            recipe.architecture, trained.blocks, trained.head, class_names, DEFAULT_PARAMS, card, trained.thresholds
        )
        seen = [clip for clip in recipe.clips if clip.fold not in held_out]
        publish(settings, model, training_record(report, settings, weights, seen, held_out), console)
        seconds["publishing"] = round(time.monotonic() - started, 1)
    recipe.done()
    return report


def _check_before_the_work(
    settings: RetrainSettings, clips: list[Clip], held_out: list[int], judged: list[int]
) -> None:
    """Find now what would else end the run after minutes or hours; raises DataError, NetworkError or NotWritable."""
    settings.architecture((0.0, 1.0))  # before weights are fetched
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


def _check_what_is_readable(recipe: Recipe, held_out: list[int], judged: list[int]) -> None:
    """Raise DataError where clips that cannot be read leave nothing to train on, or to judge."""
    for fold in (*judged, *held_out):
        if not any(clip.fold == fold for clip in recipe.clips):
            why = recipe.unreadable[0]
            raise DataError(f"no clip of fold {fold} can be read, so nothing can be judged on it: {why}")
    for without in (*({fold} for fold in judged), set(held_out)):
        _require_two_classes(recipe.clips, without)


def _require_two_classes(clips: Iterable[Clip], without: set[int]) -> None:
    """Raise DataError where the clips that are not in the folds `without` leave nothing to tell apart."""
    left = [clip for clip in clips if clip.fold not in without]
    if not _tells_apart(left):
        outside = f" outside fold {', '.join(map(str, sorted(without)))}" if without else ""
        recordings, classes = len({clip.source for clip in left}), len({clip.label for clip in left})
        raise DataError(
            f"there are {recordings} recordings of {classes} classes{outside}, training needs two of two: "
            "add clips, or name fewer folds with --evaluate and --hold-out"
        )


def _tells_apart(clips: Collection[Clip]) -> bool:
    """Whether there are two recordings of two classes, the least that can be trained on."""
    return min(len({clip.label for clip in clips}), len({clip.source for clip in clips})) >= 2


def _recipe(settings: RetrainSettings, clips: list[Clip], weights: Weights) -> Recipe:
    """The way of training that was asked for, with all that it needs of the clips."""
    architecture = settings.architecture(weights.input_range)
    cache = settings.cache or cache_folder()
    if settings.method == "bottlenecks":
        return FrozenRecipe(
            clips,
            weights,
            architecture,
            cache=cache / "bottlenecks",
            batch=settings.batch,
            precision=settings.precision,
            seed=settings.seed,
        )
    from training.finetune import Schedule
    from training.tuning import TuningRecipe

    schedule = Schedule(settings.epochs, rate=settings.learning_rate)
    folder, precision, seed = cache / "finetuning", settings.precision, settings.seed
    return TuningRecipe(clips, weights, architecture, schedule, folder=folder, precision=precision, seed=seed)


def _of_folds(recipe: Recipe, folds: set[int]) -> list[Clip]:
    return [clip for clip in recipe.clips if clip.fold in folds]


def _curves(trained: Trained, whose: str) -> list[dict[str, float]]:
    """The history of a training under names of its own, for the page's plot."""
    return [
        {name if name == "epoch" else f"{name}, {whose}": value for name, value in one.items()}
        for one in trained.history
    ]


def _write(report: dict[str, Any], path: Path) -> None:
    try:
        write_report(report, path)
    except OSError as error:
        sys.stdout.write(json.dumps(report, indent=1) + "\n")
        raise fail(f"cannot write {path} ({error.strerror}); the report is on the standard output instead") from None


def _print(console: Console, report: dict[str, Any]) -> None:
    if report["unreadable"]:
        console.print(f"{len(report['unreadable'])} clips could not be read; they are in the report")
    if not report["folds"] and not report["random_split"]:
        return
    table = Table(title="Clips that the model which is judged never saw", title_justify="left")
    for name in ("fold", "clips", "first 3 s", "whole clip", "ECE", "unknown"):
        table.add_column(name, justify="right")
    split = {"random": report["random_split"]} if report["random_split"] else {}
    for fold, one in (report["folds"] | split).items():
        table.add_row(
            fold,
            str(one["clips"]),
            f"{one['accuracy']:.1%}",
            f"{one['clip_accuracy']:.1%}",
            f"{one['calibration']['ece']:.3f}",
            f"{one['unknown']['share'] if one['unknown'] else 0:.1%}",
        )
    console.print(table)
    if split:
        console.print(WHY_RANDOM_IS_HIGHER)


if __name__ == "__main__":
    from earshot.cli import component

    component("retrain")
