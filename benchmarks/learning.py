"""Times learning with batch normalisation as Keras has it, and fused, in turn in one run.

The network is what `training.distil` teaches, its first weights are the starter model's, images and targets are random.
Each turn is a process of its own: two networks in one are both slower, whichever they are. Times are medians, ratios
medians of the ratios of each round.

Run: python -m benchmarks.learning [--rounds N] [--batch N]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from itertools import product
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np

from earshot.spectrogram import DEFAULT_PARAMS
from serving.network import feature_network
from training.finetuning.norms import with_fused_norms
from training.weights import STARTER_MODEL, load_weights

OUTPUTS = 527
"""As many as a teacher has that was trained on AudioSet."""
STEPS = 8
"""Of a turn, after a first one that compiles."""
PRECISIONS = ("float32", "mixed_bfloat16")
NORMS = ("Keras's", "fused")


def learner(precision: str, fused: bool) -> Any:
    """A network that is ready to learn."""
    keras.mixed_precision.set_global_policy(precision)
    weights = load_weights(STARTER_MODEL)
    assert weights.architecture is not None, "the starter model's weights say what network they are of"
    architecture = replace(weights.architecture, taps=weights.architecture.taps[-1:])
    features = feature_network(architecture, weights.blocks)
    if fused:
        features = with_fused_norms(features)
    outputs = keras.layers.Dense(OUTPUTS, dtype="float32")(features.output)
    model = keras.Model(features.input, outputs)
    model.compile(keras.optimizers.AdamW(1e-5), keras.losses.MeanSquaredError(), jit_compile=False)
    return model


def images_s(precision: str, fused: bool, batch: int) -> float:
    """Images a second that a network learns from."""
    model = learner(precision, fused)
    rng = np.random.default_rng(0)
    shape = (batch, DEFAULT_PARAMS.mels, DEFAULT_PARAMS.frames(), DEFAULT_PARAMS.channels)
    images = rng.uniform(0, 255, shape).astype(np.float32)
    targets = rng.normal(size=(batch, OUTPUTS)).astype(np.float32)
    model.train_on_batch(images, targets)
    started = time.perf_counter()
    for _ in range(STEPS):
        model.train_on_batch(images, targets)
    return STEPS * batch / (time.perf_counter() - started)


def turn(precision: str, norms: str, batch: int) -> float:
    """The same, measured in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.learning", "--batch", str(batch), "--turn", precision, norms]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="turns of each that are measured")
    parser.add_argument("--batch", type=int, default=64, help="images of a step")
    parser.add_argument("--turn", nargs=2, metavar=("PRECISION", "NORMS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.turn:
        precision, norms = options.turn
        print(images_s(precision, norms == NORMS[1], options.batch))
        return
    rates: dict[tuple[str, str], list[float]] = {each: [] for each in product(PRECISIONS, NORMS)}
    for _ in range(options.rounds):
        for each, own in rates.items():
            own.append(turn(*each, options.batch))
    print(f"{options.rounds} rounds of {STEPS} steps, batches of {options.batch}, {os.cpu_count()} cores\n")
    print("| precision | batch normalisation | images/s | x Keras's |\n| --- | --- | ---: | ---: |")
    for (precision, norms), own in rates.items():
        baseline = rates[precision, NORMS[0]]
        ratio = statistics.median(one / other for one, other in zip(own, baseline, strict=True))
        print(f"| {precision} | {norms} | {statistics.median(own):.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
