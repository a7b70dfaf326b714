"""Publishing: a trained model becomes the next version under its base path, and a compact file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from earshot.folders import NotWritable
from serving.compact import CompactModel, save_compact
from serving.versions import MOST_VERSION, version_folders

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from training.settings import RetrainSettings


def next_version(model_dir: Path) -> Path:
    """The folder for the version after the highest that is there."""
    there = (version for version in version_folders(model_dir) if version <= MOST_VERSION)
    return model_dir / str(1 + max(there, default=0))


def publish(settings: RetrainSettings, model: CompactModel, console: Console) -> None:
    """Write `model` where the settings say; raises NotWritable where another took its number, or the disk is full."""
    if settings.compact:
        save_compact(model, settings.compact)
        console.print(f"wrote {settings.compact} ({settings.compact.stat().st_size / 1e6:.1f} MB)")
    if settings.model_dir:
        from serving.export import ExportError, export_saved_model

        target = next_version(settings.model_dir)
        try:
            export_saved_model(model.network(), model.class_names, target, model.params, model.card, model.thresholds)
        except ExportError as error:
            raise NotWritable(f"{error}; start again, the cache keeps what was computed") from error
        console.print(f"published {target}")


def model_card(report: dict[str, Any], held_out: list[int]) -> str:
    """What the model is and how good it is, Markdown; `held_out` are the folds that it never saw."""
    folds = "\n".join(
        f"| {fold} | {one['clips']} | {one['accuracy']:.3f} | {one['clip_accuracy']:.3f} |"
        for fold, one in report["folds"].items()
    )
    left_out = f"It never saw folds {held_out}." if held_out else "It was trained on every clip."
    return (
        f"# Model card\n\nInception V3 ({report['weights']}), features of {report['settings']['taps']} in "
        f"{report['settings']['bands']} frequency bands, logistic regression; {report['clips']} clips of "
        f"{len(report['class_names'])} classes. {left_out}\n\nThe same recipe on folds that it had not seen:\n\n"
        f"| fold | clips | accuracy, first 3 s | accuracy, whole clip |\n| --- | --- | --- | --- |\n{folds}\n"
    )
