"""Summaries for TensorBoard: what was measured, and how training went, a run of its own for each model.

`tensorboard --logdir FOLDER` shows them side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from training.recipe import Trained

MEASURED = ("accuracy", "clip_accuracy")
"""Figures of a judged model that become scalars, beside its calibration error."""


def write_summary(folder: Path, name: str, trained: Trained, figures: Mapping[str, Any] | None) -> None:
    """Write the run `name` below `folder`: scalars of each epoch, and after the last one what was measured.

    `figures` are those of `training.evaluation.judging`, None of a model that was not judged. Raises OSError where the
    folder cannot be written to.
    """
    import tensorflow as tf

    run = folder / name.replace(" ", "-")
    run.mkdir(parents=True, exist_ok=True)
    for old in run.glob("events.out.tfevents.*"):  # TensorBoard would draw one line through both runs
        old.unlink()
    try:
        _write(tf.summary, run, trained, figures)
    except tf.errors.OpError as error:
        raise OSError(f"cannot write summaries to {run}: {error.message}") from error


def _write(summary: Any, run: Path, trained: Trained, figures: Mapping[str, Any] | None) -> None:
    """By TensorFlow's `summary`, with its errors."""
    epochs = len(trained.history)
    with summary.create_file_writer(str(run)).as_default():
        for one in trained.history:
            for key in one.keys() - {"epoch"}:
                summary.scalar(f"training/{key}", one[key], step=int(one["epoch"]))
        if figures:
            for key in MEASURED:
                summary.scalar(f"unseen/{key}", figures[key], step=epochs)
            summary.scalar("unseen/calibration_error", figures["calibration"]["ece"], step=epochs)
        for key, value in trained.chosen.items():
            summary.scalar(f"chosen/{key}", value, step=epochs)
