"""What taught weights account for of a teacher's answers, on recordings that they have heard and that they have not.

Run: python -m benchmarks.teaching FOLDER[,FOLDER ...] WEIGHTS [WEIGHTS ...] --teacher tiny.onnx
A line for each file of weights and each folder: the share of the teacher's variance that is unaccounted for, the mean
over its numbers, each with a slope and an offset of its own: of the first 3 s of each recording, as loud as can be.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from earshot.audio import fit_segment
from earshot.spectrogram import DEFAULT_PARAMS, spectrogram
from serving.network import feature_network
from training.data.clips import load_clip
from training.data.datasets import find_background
from training.data.hearing import each_heard
from training.settings import folders_of
from training.teaching.taught import as_learnt
from training.teaching.teacher import Teacher
from training.teaching.views import as_loud_as_can_be
from training.weights import load_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.data.clips import Clip

BATCH = 64
LEAST = 10
"""Recordings of a folder: a share of variance of fewer is chance, and of one it is not defined."""


def main() -> None:
    """Print a line for each file of weights and each folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sounds", help="folders of recordings, separated by commas")
    parser.add_argument("weights", nargs="+", help="as `earshot retrain --weights` takes them, each taught")
    parser.add_argument("--teacher", type=Path, required=True, help="ONNX network that takes sound at 16 kHz")
    options = parser.parse_args()
    teacher = Teacher(options.teacher)
    heard = {}
    for folder in folders_of(options.sounds):
        images, answers = _heard(find_background([folder]), teacher)
        if len(images) < LEAST:
            parser.error(f"{folder} has {len(images)} recordings with sound; name folders with {LEAST} or more of them")
        heard[folder] = images, as_learnt(answers)
    for name in options.weights:
        taught = load_weights(name)
        if taught.readout is None or taught.architecture is None:
            parser.error(f"{name} was not taught: it says nothing of what a teacher would say")
        ((kernel, bias),) = taught.readout.layers
        network = feature_network(taught.architecture, taught.blocks)
        for folder, (images, answers) in heard.items():
            batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
            features = np.concatenate([network.predict_on_batch(batch.astype(np.float32)) for batch in batches])
            told = features @ kernel + bias
            share = unaccounted(told, answers)
            print(f"{name}, {folder}: {share:.3f} of the teacher's variance unaccounted for ({len(images)} recordings)")


def unaccounted(told: NDArray[np.float32], answers: NDArray[np.float32]) -> float:
    """1 - r^2 of each column of `told` and `answers`, both [recordings, outputs], and the mean of that."""
    own, right = (values - values.mean(axis=0) for values in (told, answers))
    explained = (own * right).sum(axis=0) ** 2 / ((own**2).sum(axis=0) * (right**2).sum(axis=0))
    return float(1 - explained.mean())


def _heard(clips: list[Clip], teacher: Teacher) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """An image [mels, frames, channels] of each of `clips` that has sound, and what the teacher says of it."""

    def one(clip: Clip) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        pcm = as_loud_as_can_be(fit_segment(load_clip(clip.path)).astype(np.float32))
        return spectrogram(pcm, DEFAULT_PARAMS), teacher.answers(pcm[None])[0]

    made = [own for _, own in each_heard(clips, one, [], "recordings")]
    return np.array([image for image, _ in made]), np.array([answer for _, answer in made])


if __name__ == "__main__":
    main()
