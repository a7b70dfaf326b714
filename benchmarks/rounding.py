"""What it costs that a compact model's head is kept in 16 bits: the same heads before and after, on whole unseen folds.

Run: python -m benchmarks.rounding UrbanSound8K inception_v3_u8.npz [FOLD ...]
The clips' features are those of `training/retrain.py` with its default settings, and come from its cache.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from earshot.spectrogram import DEFAULT_PARAMS
from serving.compact import CompactModel, load_compact, save_compact
from training.data.datasets import find_clips
from training.evaluation.answers import Answers
from training.recipes import recipe_of
from training.settings import RetrainSettings
from training.weights import load_weights


def main() -> None:
    """Print a line for each fold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("weights")
    parser.add_argument("folds", type=int, nargs="*", default=[1, 2])
    options = parser.parse_args()
    recipe = recipe_of(RetrainSettings.model_validate({}), find_clips(options.data), load_weights(options.weights))
    names = tuple(sorted({clip.label for clip in recipe.clips}))
    for fold in options.folds:
        unseen = [clip for clip in recipe.clips if clip.fold == fold]
        trained = recipe.train([clip for clip in recipe.clips if clip.fold != fold], names)
        with TemporaryDirectory() as folder:
            path = Path(folder) / "model.npz"
            save_compact(
                CompactModel(recipe.architecture, trained.blocks, trained.head, names, DEFAULT_PARAMS, ""), path
            )
            rounded = replace(trained, head=load_compact(path).head)
        exact, coarse = (recipe.scores(one, unseen) for one in (trained, rounded))
        before, after = Answers.of(exact, names), Answers.of(coarse, names)
        changed = (before.answered != after.answered) | (before.whole.argmax(axis=1) != after.whole.argmax(axis=1))
        most = max(float(np.abs(exact[clip] - coarse[clip]).max()) for clip in unseen)
        print(
            f"fold {fold}: accuracy {before.right.mean():.4f} in 32 bits, {after.right.mean():.4f} in 16; "
            f"{changed.sum()} of {len(unseen)} clips answered otherwise, scores differ by {most:.1e} at most"
        )


if __name__ == "__main__":
    main()
