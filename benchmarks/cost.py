"""Accuracy against cost: the frozen recipe at several image sizes, in each engine and precision, on whole unseen folds.

Each size is retrained without each judged fold and quantised, as an operator would; every engine that this CPU has is
then asked about the fold by the first 3 s of its clips. `inner` is the accuracy inside the training clips, recordings
held out, by which a size may be chosen; a test fold chooses nothing. Images a second are of batches of 16, medians of
rounds in which all take turns.

    python -m benchmarks.cost UrbanSound8K WEIGHTS [--shrink 1,1 1,2 1,3] [--taps mixed2,mixed3] [--bands 4] [--seeds 1]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from rich.console import Console

from benchmarks.engines import BATCH, classes_of, first_images, scores_of_all, seconds_of
from benchmarks.loads import engines_here, load_engine
from serving.catalogue import find_version
from serving.engines.int8 import NotQuantised
from serving.inspection import read_json
from serving.layout import TRAINING_FILE
from training.data.datasets import find_clips
from training.release.quantising import quantise
from training.retrain import retrain
from training.settings import RetrainSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROUNDS = 15


@dataclass
class Size:
    """One of the compared sizes."""

    options: dict[str, str | int]
    inner: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Of each judged fold, by its number."""
    unseen: dict[str, dict[int, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    """Of each engine and judged fold."""
    version_dir: Path = Path()
    """The last version that was made of it."""

    @property
    def name(self) -> str:
        """What sets it apart."""
        return " ".join(f"--{option} {value}" for option, value in self.options.items() if value)


def main() -> None:
    """Print a row for each size and engine."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("weights")
    parser.add_argument("--shrink", nargs="+", default=["1,1", "1,2", "1,3"])
    parser.add_argument("--taps", nargs="+", default=[""])
    parser.add_argument("--bands", type=int, nargs="+", default=[0])
    parser.add_argument("--folds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    sizes = [
        Size({"taps": taps, "bands": bands, "shrink": shrink})
        for taps, bands, shrink in product(options.taps, options.bands, options.shrink)
    ]
    with tempfile.TemporaryDirectory() as base:
        for fold in options.folds:
            labels, images = first_images([options.data], str(fold))
            for number, size in enumerate(sizes):
                for seed in range(options.seeds):
                    asked = {**size.options, "data": str(options.data), "weights": options.weights, "seed": seed}
                    published = {"hold_out": str(fold), "model_base_path": Path(base) / str(number)}
                    alone = {"evaluate": "none", "generated_background": 0}  # classes are what engines are compared by
                    settings = RetrainSettings.model_validate({**asked, **published, **alone})
                    judge(size, settings, fold, labels, images)
        images_s = speeds(sizes)
    print("| size | engine | inner | unseen | mean | images/s |")
    print("| --- | --- | --- | --- | ---: | ---: |")
    for size in sizes:
        inner = ", ".join(f"{np.mean(own):.1%}" for own in size.inner.values())
        for engine, folds in size.unseen.items():
            unseen = ", ".join(f"{np.mean(own):.1%}" for own in folds.values())
            mean = np.mean([np.mean(own) for own in folds.values()])
            print(f"| {size.name} | {engine} | {inner} | {unseen} | {mean:.1%} | {images_s[size.name, engine]:.0f} |")


def judge(size: Size, settings: RetrainSettings, fold: int, labels: list[str], images: list[NDArray[np.uint8]]) -> None:
    """Publish a version without a fold, and ask it about the fold in each engine."""
    console = Console(stderr=True)
    assert settings.model_base_path
    retrain(settings, console)
    size.version_dir = find_version(settings.model_base_path).folder
    try:
        quantise(size.version_dir, find_clips(*settings.folders), console)
    except NotQuantised as error:
        console.print(f"{size.name}: {error}")
    size.inner[fold].append(read_json(size.version_dir / TRAINING_FILE)["chosen"]["inner_accuracy"])
    for name in engines_here(size.version_dir):
        engine = load_engine(name, size.version_dir)
        right = scores_of_all(engine, images).argmax(axis=1) == classes_of(labels, engine)
        size.unseen[name][fold].append(float(right.mean()))
        engine.close()


def speeds(sizes: list[Size]) -> dict[tuple[str, str], float]:
    """Images a second of each size's last version in each engine."""
    able = {
        (size.name, engine): load_engine(engine, size.version_dir)
        for size in sizes
        for engine in engines_here(size.version_dir)
    }
    seconds = seconds_of(able, BATCH, ROUNDS)
    return {which: BATCH / statistics.median(own) for which, own in seconds.items()}


if __name__ == "__main__":
    main()
