"""What it costs that a compact model's head is kept in 16 bits: the same heads before and after, on whole unseen folds.

Run: python -m benchmarks.rounding UrbanSound8K inception_v3_u8.npz [FOLD ...]
The clips' features are those of `training/retrain.py` with its default settings, and come from its cache.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from earshot.folders import cache_folder
from earshot.spectrogram import DEFAULT_PARAMS
from serving.compact import CompactModel, load_compact, save_compact
from serving.network import Architecture
from training.answers import Answers
from training.bottlenecks import Bottlenecks
from training.datasets import find_clips
from training.retrain import train
from training.settings import RetrainSettings
from training.weights import load_weights


def main() -> None:
    """Print a line for each fold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("weights")
    parser.add_argument("folds", type=int, nargs="*", default=[1, 2])
    options = parser.parse_args()
    settings = RetrainSettings.model_validate({})
    weights = load_weights(options.weights)
    architecture = Architecture(tuple(settings.taps.split(",")), settings.bands, weights.input_range)
    bottlenecks = Bottlenecks(weights, architecture, cache_folder() / "bottlenecks", settings.batch)
    features, _ = bottlenecks.of(find_clips(options.data))
    names = tuple(sorted({clip.label for clip in features}))
    for fold in options.folds:
        head = train(features, {fold}, names, settings).head
        with TemporaryDirectory() as folder:
            path = Path(folder) / "model.npz"
            save_compact(CompactModel(architecture, weights.blocks, head, names, DEFAULT_PARAMS, ""), path)
            rounded = load_compact(path).head
        unseen = {clip: one for clip, one in features.items() if clip.fold == fold}
        before, after = (Answers.of(one, unseen, names) for one in (head, rounded))
        changed = (before.answered != after.answered) | (before.whole.argmax(axis=1) != after.whole.argmax(axis=1))
        most = max(float(np.abs(head.scores(one.heard) - rounded.scores(one.heard)).max()) for one in unseen.values())
        print(
            f"fold {fold}: accuracy {before.right.mean():.4f} in 32 bits, {after.right.mean():.4f} in 16; "
            f"{changed.sum()} of {len(unseen)} clips answered otherwise, scores differ by {most:.1e} at most"
        )


if __name__ == "__main__":
    main()
