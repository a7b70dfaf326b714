"""Publishing: a trained model becomes the next version under its base path, and a compact file."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from earshot.folders import NotWritable
from earshot.labels import UNKNOWN
from serving.catalogue import next_version
from serving.compact import CompactModel, save_compact
from serving.inspection import timestamp
from serving.layout import TRAINING_FILE
from training.data.background import counted
from training.evaluation.report import run_name
from training.settings import folders_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

    from training.data.clips import Clip
    from training.recipe import Trained
    from training.settings import RetrainSettings
    from training.weights import Weights

SAID = {
    *("method", "epochs", "how_many_training_steps", "learning_rate", "balance", "precision", "batch", "seed"),
    *("evaluate", "generated_background", "patience", "augment", "noise", "freeze", "bfloat16"),
}
"""Settings that a version tells of its training."""


def publish(settings: RetrainSettings, model: CompactModel, record: dict[str, Any], console: Console) -> Path | None:
    """Write `model` where the settings say, a version together with `record`, which says what it was made from.

    Returns the version's folder, if there is one. Raises NotWritable where the disk is full.
    """
    if settings.compact:
        save_compact(model, settings.compact)
        console.print(f"wrote {settings.compact} ({settings.compact.stat().st_size / 1e6:.1f} MB)")
    if not settings.model_base_path:
        return None
    target = _published(model, settings.model_base_path, {TRAINING_FILE: json.dumps(record, indent=1) + "\n"}, console)
    console.print(f"published {target}")
    return target


def _published(model: CompactModel, base_path: Path, extra: Mapping[str, str], console: Console) -> Path:
    """The next version there, of the number after those that others publish meanwhile."""
    from serving.export import export_saved_model
    from serving.failures import ExportError, VersionTaken

    while True:
        target = next_version(base_path)
        try:
            return export_saved_model(
                model.network(), model.class_names, target, model.params, model.card, model.thresholds, extra
            )
        except VersionTaken:
            console.print(f"{target} appeared meanwhile; this model goes on to the next number")
        except ExportError as error:
            raise NotWritable(f"{error}; start again, the cache keeps what was computed") from error


def training_record(
    report: dict[str, Any],
    settings: RetrainSettings,
    weights: Weights,
    trained: Trained,
    seen: Collection[Clip],
    held_out: list[int],
    calibrated_by: Sequence[str],
) -> dict[str, Any]:
    """What a version was made from, as JSON values: `seen` are the clips that its head was trained on.

    `recordings` are their sources, and `heard` marks of what its weights were taught by without labels; whoever judges
    the version leaves both out. `calibrated_by` names weights, as `Recipe` has it. `chosen` is what training chose by
    those clips. `run` is what the folder of its run is called, where there is one.
    """
    figures = ("clips", "heard_clips", "accuracy", "clip_accuracy")
    return {
        "made": timestamp(datetime.now(UTC)),
        "run": run_name(report) if settings.run_dir else None,
        "data": [folder.absolute().name for folder in settings.folders],
        "background": [folder.absolute().name for folder in folders_of(settings.background)],
        "class_map": settings.class_map.name if settings.class_map else None,
        **counted(seen),
        "recordings": sorted({clip.source for clip in seen}),
        "heard": None if weights.heard is None else sorted(weights.heard),
        "hold_out": held_out,
        "held_out": {name: report["held_out"][name] for name in figures} if held_out else None,
        "folds": {fold: {name: one[name] for name in figures} for fold, one in report["folds"].items()},
        "weights": {"name": weights.name, "digest": weights.digest},
        "notes_of_weights": list(weights.notes),
        "calibrated_by": list(calibrated_by),
        "architecture": report["architecture"],
        "recipe": report["recipe"],
        "chosen": {**trained.chosen, "temperature": round(trained.temperature, 3)},
        "thresholds": thresholds_of(trained, report["class_names"]),
        "settings": settings.model_dump(mode="json", include=SAID),
        "packages": report["packages"],
    }


def thresholds_of(trained: Trained, class_names: Sequence[str]) -> dict[str, float]:
    """Score of each class below which its label is `unknown`; of `unknown` itself it says nothing."""
    return {name: round(score, 4) for name, score in zip(class_names, trained.thresholds, strict=True)}


def model_card(report: dict[str, Any], trained: Trained, held_out: list[int], notes: Sequence[str]) -> str:
    """What the `trained` model is and how good it is, Markdown; `held_out` are the folds whose labels it never saw."""
    rows = [
        f"| {fold} | {one['clips']} | {one['accuracy']:.3f} | {one['clip_accuracy']:.3f} | {one['macro_f1']:.3f} "
        f"| {_calibration_error(one)} | {_false_accepts(one) or '-'} |\n"
        for fold, one in report["folds"].items()
    ]
    figures = "" if held_out else "No fold was left out of it or of another model to judge it by.\n"
    if rows:
        figures = (
            "The same recipe on folds whose labels it had not seen:\n\n| fold | clips | accuracy, first 3 s "
            "| accuracy, whole clip | macro F1 | calibration error, before and after | false accepts an hour |\n"
            f"| --- | --- | --- | --- | --- | --- | --- |\n{''.join(rows)}"
        )
    left_out = "It was trained on every clip."
    if held_out:
        unseen = report["held_out"]
        left_out = (
            f"It learnt from {report['clips'] - unseen['clips']} of the clips, and never saw the labels of fold "
            f"{', '.join(map(str, held_out))}. Of its {unseen['clips']} clips it names "
            f"{unseen['accuracy']:.1%} by the first 3 s, {unseen['clip_accuracy']:.1%} by the whole clip. Calibration "
            f"error, before calibration and after: {_calibration_error(unseen)}."
        )
        if heard := _false_accepts(unseen):
            left_out += f" False accepts an hour: {heard}."
    classes = sum(name != UNKNOWN for name in report["class_names"])
    background = f" and {report['background_clips']} of none" if report["background_clips"] else ""
    network = report["architecture"]
    bands = f"{network['bands']} frequency band{'s' if network['bands'] > 1 else ''}"
    what = f"{network['inceptions']} Inception V3s side by side" if "inceptions" in network else "Inception V3"
    said = "".join(f"\n{note}\n" for note in notes)
    least = thresholds_of(trained, report["class_names"])
    named = ", ".join(f"{name} {score:.2f}" for name, score in least.items() if name != UNKNOWN)
    return (
        f"# Model card\n\n{what} ({report['weights']}), features of {', '.join(network['taps'])} in {bands}, "
        f"{report['recipe']}; {report['clips']} clips of {classes} classes{background}. {left_out}\n\n"
        f"Classes, and the score below which a label is `{UNKNOWN}`: {named}. Logits were divided by a temperature of "
        f"{trained.temperature:.2f}.\n\n{figures}{said}"
    )


def _calibration_error(judged: Mapping[str, Any]) -> str:
    """Of scores before they were calibrated, and after."""
    return f"{judged['calibration_before']['ece']:.3f}, {judged['calibration']['ece']:.3f}"


def _false_accepts(judged: Mapping[str, Any]) -> str:
    """How many an hour of what; empty where nothing of no class was judged."""
    kinds = {"background": "background", "generated_background": "noises that were made"}
    return ", ".join(
        f"{judged[key]['false_accepts_per_hour']:.0f} of {what}" for key, what in kinds.items() if judged[key]
    )
