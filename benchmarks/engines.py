"""Compares TensorFlow and OpenVINO's precisions in one process: images a second, time to load, and accuracy on clips.

Engines take turns, in another order each round, so that whatever else the machine does meets all of them; times are
medians, ratios medians of the ratios of each round. A version that brings no int8.json is compared without 8 bits.

Run: python -m benchmarks.engines [--model-base-path DIR | --whole] [--rounds N] [--data DIR --folds 1]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.loads import TENSORFLOW, engines_here, load_engine
from serving.catalogue import find_version
from serving.engines.conversion import convert
from serving.engines.int8 import Int8, measure
from serving.engines.openvino_core import CORE
from serving.engines.openvino_engine import Precision
from serving.export import export_saved_model
from serving.network import Architecture, Head, blocks_in, build_network
from serving.starter import ensure_starter
from training.data.datasets import chosen_folds, find_clips
from training.data.hearing import each_heard, hear

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from serving.engines.engine import Engine

Name = TypeVar("Name")

SHAPE = (128, 301, 3)
BATCH = 16

LOAD = """
import re, sys, time
from pathlib import Path
import numpy, tensorflow
engine, version_dir, *cache = sys.argv[1], *map(Path, sys.argv[2:])
def most_mb():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
before_mb = most_mb()
started = time.perf_counter()
if engine == "tensorflow":
    from serving.engines.tensorflow_engine import TensorFlowEngine
    loaded = TensorFlowEngine(version_dir)
else:
    from serving.engines.openvino_engine import OpenVinoEngine, Precision
    loaded = OpenVinoEngine(version_dir, Precision(engine), *cache)
seconds = time.perf_counter() - started
image = numpy.zeros((16, 128, 301, 3), numpy.uint8)
loaded.run("serving_default", {"spectrogram": image}, ["scores"])
print(seconds, most_mb() - before_mb)
"""


def whole_inception(base: Path) -> Path:
    """The folder of a version with all 94 blocks of Inception V3 and weights at random: as quick as a trained one."""
    import keras

    keras.utils.set_random_seed(0)
    whole = keras.applications.InceptionV3(include_top=False, weights=None, input_shape=(None, None, 3))
    rng = np.random.default_rng(0)
    head = Head(((rng.normal(0, 0.01, (4096, 10)).astype(np.float32), np.zeros(10, np.float32)),))
    network = build_network(Architecture(taps=("mixed10",), bands=1), blocks_in(whole), head)
    version_dir = export_saved_model(network, [f"class {number}" for number in range(10)], base / "1")
    converted = convert(version_dir)
    calibration = measure(CORE.read_model(converted.network), converted.images)
    Int8(calibration, len(converted.images), 0, unseen=False, agreement=1, accuracy_float32=0, accuracy_int8=0).write(
        version_dir
    )
    return version_dir


def scores(engine: Engine, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Scores float32 [n, classes]."""
    answered: NDArray[np.float32] = engine.run("serving_default", {"spectrogram": images}, ["scores"])["scores"]
    return answered


def seconds_of(able: Mapping[Name, Engine], batch: int, rounds: int) -> dict[Name, list[float]]:
    """Seconds that each engine takes for a batch of images, in each round."""
    images = np.random.default_rng(0).integers(0, 256, (batch, *SHAPE)).astype(np.uint8)
    return seconds_in_turn({name: partial(scores, engine, images) for name, engine in able.items()}, rounds)


def seconds_in_turn(runs: Mapping[Name, Callable[[], object]], rounds: int) -> dict[Name, list[float]]:
    """Seconds that each takes in each round; their order is another each time."""
    rng = np.random.default_rng(0)
    names = list(runs)
    times: dict[Name, list[float]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        for number in rng.permutation(len(names)):
            started = time.perf_counter()
            runs[names[number]]()
            if turn:  # the first is for the engines to settle on a batch size
                times[names[number]].append(time.perf_counter() - started)
    return times


def print_speed(able: Mapping[str, Engine], batches: list[int], rounds: int) -> None:
    """Images a second of each engine."""
    print(f"{rounds} rounds, medians, {os.cpu_count()} CPUs")
    print(f"{'engine':<12} {'batch':>5} {'images/s':>9} {'x TensorFlow':>13}")
    for batch in batches:
        times = seconds_of(able, batch, rounds)
        for name, own in times.items():
            ratio = statistics.median(theirs / ours for theirs, ours in zip(times[TENSORFLOW], own, strict=True))
            print(f"{name:<12} {batch:>5} {batch / statistics.median(own):>9.1f} {ratio:>13.2f}")


def print_loading(able: Mapping[str, Engine], version_dir: Path, rounds: int) -> None:
    """Seconds to load the version in a fresh process, and by how much its memory grows, a batch of 16 included."""
    print(f"{'engine':<12} {'load':>8} {'memory':>9}   ({rounds} processes each, medians, TensorFlow imported before)")

    def measured(name: str, cache: Path | None = None) -> tuple[float, float]:
        command = [sys.executable, "-c", LOAD, name, str(version_dir), *([str(cache)] if cache else [])]
        seconds, mb = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-2:]
        return float(seconds), float(mb)

    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in able}
    for _ in range(rounds):
        for name, own in taken.items():
            own.append(measured(name))
    with tempfile.TemporaryDirectory() as empty:
        taken["f32, first"] = [measured(Precision.F32, Path(empty))]
    for name, own in taken.items():
        seconds, mb = (statistics.median(values) for values in zip(*own, strict=True))
        print(f"{name:<12} {seconds:>6.2f} s {mb:>6.0f} MB")


def first_images(folders: Sequence[Path], folds: str) -> tuple[list[str], list[NDArray[np.uint8]]]:
    """Labels, and images of the first 3 s, of the clips in these folds that can be read."""
    found = find_clips(*folders)
    chosen = set(chosen_folds(folds, found))
    wanted = [clip for clip in found if clip.fold in chosen]
    heard = list(each_heard(wanted, lambda clip: hear(clip.path).back_to_back[0](), [], "clips"))
    return [clip.label for clip, _ in heard], [image for _, image in heard]


def classes_of(labels: Sequence[str], engine: Engine) -> NDArray[np.int64]:
    """Number that a model has for each label's class, [clips]; ValueError where it does not know one."""
    image = np.zeros((1, *SHAPE), dtype=np.uint8)
    names = engine.run("serving_default", {"spectrogram": image}, ["classes"])["classes"][0].tolist()
    return np.array([names.index(label.encode()) for label in labels])


def scores_of_all(engine: Engine, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Scores float32 [images, classes], in batches."""
    batches = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
    return np.concatenate([scores(engine, np.stack(batch)) for batch in batches])


def print_accuracy(able: Mapping[str, Engine], folders: list[Path], folds: str) -> None:
    """Share of first 3 s of clips that each engine names right, and names as TensorFlow does."""
    labels, images = first_images(folders, folds)
    truth = classes_of(labels, able[TENSORFLOW])
    print(f"{len(images)} clips of folds {folds}")
    print(f"{'engine':<12} {'right':>7} {'as TensorFlow':>14} {'farthest score':>15}")
    own: Any = None
    for name, engine in able.items():
        answered = scores_of_all(engine, images)
        own = answered if own is None else own
        best, alike = answered.argmax(axis=1), (answered.argmax(axis=1) == own.argmax(axis=1)).mean()
        apart = np.abs(answered - own).max()
        print(f"{name:<12} {(best == truth).mean():>7.2%} {alike:>14.2%} {apart:>15.6f}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model-base-path", type=Path, help="another model than the starter")
    parser.add_argument("--whole", action="store_true", help="the whole of Inception V3, with weights at random")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batches", default="1,4,16", help="images at once")
    parser.add_argument("--processes", type=int, default=3, help="fresh processes for the time to load; 0: none")
    parser.add_argument("--data", help="labelled clips, for the accuracy")
    parser.add_argument("--folds", default="all", help="folds of them")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as base:
        if options.whole:
            version_dir = whole_inception(Path(base))
        else:
            version_dir = find_version(options.model_base_path or ensure_starter()).folder
        compare(version_dir, options)


def compare(version_dir: Path, options: argparse.Namespace) -> None:
    """Print the tables of one version."""
    able = {name: load_engine(name, version_dir) for name in engines_here(version_dir)}
    if options.rounds:
        print_speed(able, [int(batch) for batch in options.batches.split(",")], options.rounds)
    if options.processes:
        print_loading(able, version_dir, options.processes)
    if options.data:
        print_accuracy(able, [Path(folder) for folder in options.data.split(",")], options.folds)


if __name__ == "__main__":
    main()
