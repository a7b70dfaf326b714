"""Times a step of learning with batch normalisation as Keras has it, and fused, in turn in one run.

The network and its first weights are the starter model's, images and targets are random; times are medians, ratios
medians of the ratios of each round.

Run: python -m benchmarks.learning [--rounds N] [--batch N]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
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
STEPS = 4
"""Of each network in a round."""


def learner(precision: str, fused: bool) -> Any:
    """A network that is ready to learn."""
    keras.mixed_precision.set_global_policy(precision)
    weights = load_weights(STARTER_MODEL)
    assert weights.architecture is not None, "the starter model's weights say what network they are of"
    features = feature_network(weights.architecture, weights.blocks)
    if fused:
        features = with_fused_norms(features)
    outputs = keras.layers.Dense(OUTPUTS, dtype="float32")(features.output)
    model = keras.Model(features.input, outputs)
    model.compile(keras.optimizers.AdamW(1e-5), keras.losses.MeanSquaredError(), jit_compile=False)
    return model


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="turns that are measured")
    parser.add_argument("--batch", type=int, default=64, help="images of a step")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    shape = (arguments.batch, DEFAULT_PARAMS.mels, DEFAULT_PARAMS.frames(), DEFAULT_PARAMS.channels)
    images = rng.uniform(0, 255, shape).astype(np.float32)
    targets = rng.normal(size=(arguments.batch, OUTPUTS)).astype(np.float32)

    print(f"{arguments.rounds} rounds of {STEPS} steps, batches of {arguments.batch}, {os.cpu_count()} cores\n")
    print("| precision | batch normalisation | images/s | x Keras's |\n| --- | --- | ---: | ---: |")
    for precision in ("float32", "mixed_bfloat16"):
        learners = {name: learner(precision, name == "fused") for name in ("Keras's", "fused")}
        for model in learners.values():
            model.train_on_batch(images, targets)  # compiles
        rates: dict[str, list[float]] = {name: [] for name in learners}
        for _ in range(arguments.rounds):
            for name, model in learners.items():
                started = time.perf_counter()
                for _ in range(STEPS):
                    model.train_on_batch(images, targets)
                rates[name].append(STEPS * arguments.batch / (time.perf_counter() - started))
        for name, own in rates.items():
            ratio = statistics.median(one / other for one, other in zip(own, rates["Keras's"], strict=True))
            print(f"| {precision} | {name} | {statistics.median(own):.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
