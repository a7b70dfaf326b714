"""Retrains the model: a head or the network too, judged on whole unseen folds, published as the next version.

Runs as `python training/retrain.py`, `python -m training.retrain` and `earshot retrain`.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":  # as a file, this folder would come before the project's
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from rich.console import Console
from structlog.contextvars import bound_contextvars

from earshot.command import TRY_AGAIN, fail, interrupted
from earshot.folders import NotWritable, cache_folder
from earshot.labels import UNKNOWN
from earshot.spectrogram import DEFAULT_PARAMS
from serving.catalogue import NoBasePath
from serving.compact import CompactModel
from serving.inspection import timestamp
from serving.network import NetworkError
from training.data.background import counted
from training.data.datasets import DataError, chosen_folds, clips_of, thin_classes
from training.data.heard import too_kind
from training.data.noises import make_noises
from training.evaluation.judging import judged_without, pooled, random_split
from training.evaluation.page import WHY_RANDOM_IS_HIGHER
from training.evaluation.report import package_versions, printed_instead, write_labels, write_report
from training.evaluation.resampling import LEAST_RECORDINGS
from training.evaluation.summaries import write_summary
from training.preflight import check_before, check_readable, tells_apart
from training.recipe import NotConverged
from training.recipes import recipe_of
from training.release.publishing import model_card, publish, training_record
from training.runs import write_run
from training.screen import print_judged, print_lost, print_notes, print_thin
from training.settings import OF_FINE_TUNING
from training.stages import Stages
from training.weights import WeightsError, WeightsOutOfReach, load_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from training.data.clips import Clip
    from training.evaluation.judging import Judgement
    from training.recipe import Recipe, Trained
    from training.settings import RetrainSettings
    from training.weights import Weights


def run(settings: RetrainSettings) -> None:
    """Retrain the model on labelled clips, print and write what was measured, and publish what was asked for."""
    console = Console(markup=False)  # a class, or a folder, may have brackets in its name
    try:
        report = retrain(settings, console)
    except WeightsOutOfReach as error:
        raise fail(error, TRY_AGAIN) from None
    except (DataError, WeightsError, NetworkError, NotConverged, NotWritable, NoBasePath) as error:
        raise fail(error) from None
    except OSError as error:
        raise fail(f"{error}; mend that and start again, the cache keeps what was computed") from None
    except KeyboardInterrupt:
        raise interrupted("the same command goes on from what the cache keeps") from None
    _write(settings, report, console)


def retrain(settings: RetrainSettings, console: Console) -> dict[str, Any]:
    """The whole job; returns the report as JSON values.

    Raises DataError, WeightsError, NetworkError, NotConverged, NotWritable or NoBasePath.
    """
    started = datetime.now(UTC)
    _set_up_libraries(settings)
    clips = clips_of(settings)
    thin = thin_classes(clips)
    print_thin(console, thin, "Classes of few recordings, whose figures say little")
    held_out = chosen_folds(settings.hold_out, clips)
    judged = chosen_folds(settings.evaluate, clips, but=held_out)  # what decides about a model chooses no recipe
    check_before(settings, clips, held_out, judged)
    idle = [name for name in OF_FINE_TUNING if getattr(settings, name) != type(settings).model_fields[name].default]
    if idle and settings.method == "bottlenecks":
        named = [settings.giving(name, getattr(settings, name)) for name in idle]
        console.print(f"Without --method finetune these do nothing: {', '.join(named)}")
    elif "epochs" in idle and settings.how_many_training_steps:
        console.print("--how-many-training-steps decides how long is trained, so --epochs does nothing")
    if not settings.publishes:
        console.print("Nothing will be published: --model-base-path names where the next version goes")
    stages = Stages()
    with stages.stage("weights"):
        weights = load_weights(settings.weights)
    with stages.stage("features"):
        recipe = recipe_of(settings, [*clips, *_noises(settings, clips)], weights)
    class_names = tuple(sorted({clip.label for clip in recipe.clips}))
    print_lost(console, clips, class_names)
    check_readable(settings, recipe, held_out, judged)
    readable = thin_classes(recipe.clips)
    fewer = {label: sources for label, sources in readable.items() if thin.get(label) != sources}
    print_thin(console, fewer, "Of these few recordings can be read")

    with stages.stage("evaluation"):
        evaluated = _evaluated(settings, recipe, class_names, judged, console)
    report: dict[str, Any] = {
        "started": timestamp(started, "microseconds"),
        "title": f"Retraining on {', '.join(folder.name for folder in settings.folders)}",
        "settings": settings.model_dump(mode="json"),
        "weights": weights.name,
        "class_names": class_names,
        "architecture": recipe.architecture.to_json(),
        "recipe": recipe.about,
        **counted(recipe.clips),
        "unreadable": list(recipe.unreadable),
        "thin_classes": readable,
        **evaluated,
        "seconds": stages.seconds,
        "peak_memory_mb": stages.peak_memory_mb,
        "packages": package_versions(),
    }
    print_judged(console, report)
    if report["random_split"]:
        console.print(WHY_RANDOM_IS_HIGHER)
    if settings.report and settings.publishes and (report["folds"] or report["random_split"]):
        with suppress(OSError):  # it is written again; until then what was judged outlives a kill
            write_report({**report, "title": f"{report['title']} (not published yet)"}, settings.report)
    if settings.publishes:
        with stages.stage("publishing"), bound_contextvars(model="published model"):
            _publish(settings, recipe, class_names, held_out, weights, report, console)
    recipe.done()
    return report


def _noises(settings: RetrainSettings, clips: list[Clip]) -> list[Clip]:
    """Noises that are made, dealt into the folds that `clips` of classes have."""
    dealt = sorted({clip.fold for clip in clips if clip.label != UNKNOWN})
    if not dealt or not settings.generated_background:
        return []
    folder = (settings.cache or cache_folder()) / ".noises"  # hidden, so that with a cache below --data it is no class
    return make_noises(settings.generated_background, dealt, settings.seed, folder)


def _evaluated(
    settings: RetrainSettings, recipe: Recipe, class_names: tuple[str, ...], judged: list[int], console: Console
) -> dict[str, Any]:
    """What the report says of models that are only trained to be judged, each on what it never saw."""
    curves: list[dict[str, float]] = []

    def judge(name: str, unseen: list[Clip]) -> tuple[Judgement, dict[str, Any]]:
        with bound_contextvars(model=name):
            judgement = judged_without(recipe, unseen, class_names)
        figures = judgement.figures()
        console.print(f"{name}: {figures['accuracy']:.1%} of {figures['clips']} clips")
        curves.extend(_curves(judgement.trained, name))
        if settings.summaries_dir:
            write_summary(settings.summaries_dir, name, judgement.trained, figures)
        return judgement, figures

    folds = {str(fold): judge(f"fold {fold}", _of_folds(recipe, {fold})) for fold in judged}
    split = None
    if settings.protocol == "random":
        tested = random_split(recipe.clips)
        known = any(clip.label != UNKNOWN for clip in tested)
        if known and tells_apart(set(recipe.clips) - set(tested)):
            _, split = judge("random split", tested)
        else:
            console.print("There are too few clips for a random split")
    return {
        "folds": {fold: figures for fold, (_, figures) in folds.items()},
        "pooled": pooled([judgement for judgement, _ in folds.values()]) if folds else None,
        "random_split": split,
        "learning_curves": curves,
        "published": None,
        "notes": [],
    }


def _set_up_libraries(settings: RetrainSettings) -> None:
    """What TensorFlow and Keras read when they are imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if settings.method == "finetune":  # TensorFlow leaves oneDNN off on some CPUs, where it trains up to twice as fast
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if settings.model_dir:
        os.environ["KERAS_HOME"] = str(settings.model_dir.absolute())


def _publish(
    settings: RetrainSettings,
    recipe: Recipe,
    class_names: tuple[str, ...],
    held_out: list[int],
    weights: Weights,
    report: dict[str, Any],
    console: Console,
) -> None:
    """Train the model that is to be served, and write it where the settings say."""
    unseen = judged_without(recipe, _of_folds(recipe, set(held_out)), class_names)
    trained = unseen.trained
    if held_out:
        report["held_out"] = unseen.figures()
        console.print(
            f"the model that is published, on fold{'s' * (len(held_out) > 1)} {settings.hold_out}, whose labels it "
            f"never saw: {report['held_out']['accuracy']:.1%} of {report['held_out']['clips']} clips"
        )
        if report["held_out"]["recordings"] < LEAST_RECORDINGS:
            console.print(f"fewer than {LEAST_RECORDINGS} recordings cannot promote it: hold out more folds for that")
    said = {note for one in (report["pooled"], report["random_split"]) if one for note in one["notes"]}
    print_notes(console, [note for note in unseen.notes if note not in said])
    report["notes"] = list(dict.fromkeys(unseen.notes))
    report["learning_curves"] += _curves(trained, "published model")
    if settings.summaries_dir:
        write_summary(settings.summaries_dir, "published model", trained, report.get("held_out"))
    judged = [clip for clip in recipe.clips if str(clip.fold) in report["folds"]]
    card = model_card(report, trained, held_out, list(dict.fromkeys([*too_kind(recipe.heard, judged), *unseen.notes])))
    model = CompactModel(
        recipe.architecture, trained.blocks, trained.head, class_names, DEFAULT_PARAMS, card, trained.thresholds
    )
    seen = [clip for clip in recipe.clips if clip.fold not in held_out]
    record = training_record(report, settings, weights, trained, seen, held_out, recipe.calibrated_by)
    version = publish(settings, model, record, console)
    report["published"] = str(version) if version else None


def _of_folds(recipe: Recipe, folds: set[int]) -> list[Clip]:
    return [clip for clip in recipe.clips if clip.fold in folds]


def _curves(trained: Trained, whose: str) -> list[dict[str, float]]:
    """The history of a training under names of its own, for the page's plot."""
    return [
        {name if name == "epoch" else f"{name}, {whose}": value for name, value in one.items()}
        for one in trained.history
    ]


def _write(settings: RetrainSettings, report: dict[str, Any], console: Console) -> None:
    """Write labels, report and the run's folder; what cannot be written keeps none of the others from it."""
    failed = []
    targets: list[tuple[Path | None, Callable[[dict[str, Any], Path], Iterable[Path]]]] = [
        (settings.output_labels, write_labels),
        (settings.report, write_report),
        (settings.run_dir, lambda report, runs: [write_run(report, runs)]),
    ]
    for path, write in targets:
        try:
            for file in write(report, path) if path else ():
                console.print(f"wrote {file}", soft_wrap=True)
        except OSError as error:
            failed.append(f"cannot write {path} ({error.strerror})")
    if failed:
        raise printed_instead(report, *failed)


if __name__ == "__main__":
    from earshot.cli import component

    component("retrain")
