"""Accuracy against cost: the frozen recipe at several image sizes, on whole unseen folds, with its speed here.

`inner` is the accuracy inside the training clips, recordings held out, by which a size may be chosen; a test fold
chooses nothing. Images a second are of the network that would be served, TensorFlow in this process, batches of 16,
medians of interleaved rounds.

    python -m benchmarks.cost UrbanSound8K WEIGHTS [--shrink 1,1 1,2 1,3] [--taps mixed2,mixed3] [--seeds 1]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from earshot.spectrogram import DEFAULT_PARAMS
from serving.network import build_network
from training.data.datasets import find_clips
from training.evaluation.judging import judged_without
from training.recipes import recipe_of
from training.settings import RetrainSettings
from training.weights import load_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from training.data.clips import Clip
    from training.weights import Weights

BATCH = 16
ROUNDS = 15


def main() -> None:
    """Print figures and speed of each size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("weights")
    parser.add_argument("--shrink", nargs="+", default=["1,1", "1,2", "1,3"])
    parser.add_argument("--taps", nargs="+", default=[""])
    parser.add_argument("--bands", type=int, nargs="+", default=[0])
    parser.add_argument("--folds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    clips, weights = find_clips(options.data), load_weights(options.weights)
    networks: dict[str, Callable[[], Any]] = {}
    for taps in options.taps:
        for bands in options.bands:
            for shrink in options.shrink:
                size = {"taps": taps, "bands": bands, "shrink": shrink}
                runs = [RetrainSettings.model_validate({**size, "seed": seed}) for seed in range(options.seeds)]
                architecture = runs[0].architecture(weights.input_range, weights.architecture)
                name = f"{','.join(architecture.taps)} x {architecture.bands}, shrink {shrink}"
                figures, networks[name] = _judged(clips, weights, runs, options.folds)
                print(f"{name}: {figures}", flush=True)
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(ROUNDS):
        for name, answer in networks.items():
            started = time.perf_counter()
            answer()
            seconds[name].append(time.perf_counter() - started)
    for name, each in seconds.items():
        print(f"{name}: {BATCH / statistics.median(each):.0f} images/s")


def _judged(
    clips: list[Clip], weights: Weights, runs: list[RetrainSettings], folds: list[int]
) -> tuple[str, Callable[[], Any]]:
    """Its figures, and what answers one batch."""
    inner: dict[int, list[float]] = {fold: [] for fold in folds}
    unseen: dict[int, list[float]] = {fold: [] for fold in folds}
    for settings in runs:
        recipe = recipe_of(settings, clips, weights)
        names = tuple(sorted({clip.label for clip in recipe.clips}))
        for fold in folds:
            judgement = judged_without(recipe, [clip for clip in recipe.clips if clip.fold == fold], names)
            inner[fold].append(judgement.trained.chosen["inner_accuracy"])
            unseen[fold].append(float(judgement.answers.right.mean()))
    network = build_network(recipe.architecture, judgement.trained.blocks, judgement.trained.head)
    shape = (BATCH, DEFAULT_PARAMS.mels, DEFAULT_PARAMS.frames(), DEFAULT_PARAMS.channels)
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    network.predict_on_batch(images)
    parts = [
        f"without fold {fold}: inner {np.mean(inner[fold]):.1%}, unseen {np.mean(unseen[fold]):.1%}"
        + (f" (sd {100 * np.std(unseen[fold], ddof=1):.1f} points)" if len(runs) > 1 else "")
        for fold in folds
    ]
    mean = np.mean([np.mean(values) for values in unseen.values()])
    return f"{'; '.join(parts)}; mean {mean:.1%}", lambda: network.predict_on_batch(images)


if __name__ == "__main__":
    main()
