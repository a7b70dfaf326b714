"""Makes what a version needs to be run in 8 bits: measured on clips it was trained on, judged on other clips."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import TYPE_CHECKING

import numpy as np

from processors.predictor import SIGNATURE
from serving.engines.conversion import convert
from serving.engines.int8 import Int8, measure
from serving.engines.openvino_core import CORE
from serving.engines.openvino_engine import OpenVinoEngine, Precision
from serving.inspection import recordings_seen, sounds_heard
from training.data.datasets import DataError
from training.data.heard import heard_recordings
from training.data.hearing import each_heard, hear

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from rich.console import Console

    from earshot.spectrogram import SpectrogramParams
    from training.data.clips import Clip

MEASURED = 200
"""Clips to measure on: 50 gave the same answers but for a handful of 873 clips."""
COMPARED = 1_000
"""Most clips to compare on."""
LEAST_UNSEEN = 10
"""Fewer clips that the version was not trained on decide nothing: they may be those that could not be read then."""
_BATCH = 16
_SEED = 0


@dataclass(frozen=True, slots=True)
class _Parts:
    """Which clips are for what."""

    measured: list[Clip]
    compared: list[Clip]
    unseen: bool
    """Whether the model knows none of the recordings of `compared`."""


def quantise(
    version_dir: Path, clips: Sequence[Clip], console: Console, cache: Path | None = None
) -> tuple[Int8, Path]:
    """Put what 8 bits need into the version; returns it and its file. cache: of conversions; None is Earshot's.

    Raises NotQuantised where float32 and 8 bits name too many clips differently, DataError where the clips will not
    do, CannotConvert, CannotLoadNow, or OSError; then the version is as it was.
    """
    converted = convert(version_dir, cache)
    float32 = OpenVinoEngine(version_dir, Precision.F32, cache)
    class_names = _class_names(float32, converted.images[:1])
    clips = [clip for clip in clips if clip.label in class_names]
    parts = _divided(clips, recordings_seen(version_dir), heard_recordings(sounds_heard(version_dir), clips))
    network = CORE.read_model(converted.network)
    measured = [image for _, image in _images(parts.measured, converted.params, "measuring", console)]
    calibration = measure(network, measured)
    int8 = OpenVinoEngine(version_dir, Precision.INT8, cache, calibration=calibration)
    named: list[tuple[str, int, int]] = []
    for labels, images in _batches(_images(parts.compared, converted.params, "comparing", console)):
        best = (_scores(engine, images).argmax(axis=1) for engine in (float32, int8))
        named += zip(labels, *best, strict=True)
    if not named:
        raise DataError("none of the clips to compare on can be read; the log names them")
    count = len(named)
    outcome = Int8(
        calibration=calibration,
        calibrated_on=len(measured),
        clips=count,
        unseen=parts.unseen,
        agreement=sum(ours == theirs for _, theirs, ours in named) / count,
        accuracy_float32=sum(class_names[theirs] == label for label, theirs, _ in named) / count,
        accuracy_int8=sum(class_names[ours] == label for label, _, ours in named) / count,
    )
    outcome.require_agreement()
    return outcome, outcome.write(version_dir)


def _divided(clips: list[Clip], seen: frozenset[str] | None, heard: frozenset[str]) -> _Parts:
    """Clips to measure on, from recordings that the model was trained on where it says so, and clips to compare on.

    seen: recordings that its head learnt. heard: those that its weights were taught by, which are no news to it either.
    """
    if len(clips) < 2:
        raise DataError("of the model's classes there are fewer than two clips; --data names those it was trained on")
    clips = [clips[number] for number in np.random.default_rng(_SEED).permutation(len(clips))]
    trained = [clip for clip in clips if seen is None or clip.source in seen]
    known = heard | (seen or frozenset())
    unseen = [clip for clip in clips if seen is not None and clip.source not in known]
    if len(unseen) < LEAST_UNSEEN:
        unseen = []
    if not trained:
        raise DataError("the model was trained on none of these clips, and is measured on some that it was trained on")
    if unseen:
        return _Parts(trained[:MEASURED], unseen[:COMPARED], unseen=True)
    measured, compared = _apart(trained, min(MEASURED, len(trained) // 2))
    if not compared:
        raise DataError("all of these clips are of one recording; others to compare on are named with --data")
    return _Parts(measured[:MEASURED], compared[:COMPARED], unseen=False)


def _apart(clips: list[Clip], count: int) -> tuple[list[Clip], list[Clip]]:
    """`count` of `clips`, or more to the end of a recording, and the others: no recording is in both."""
    counts = Counter(clip.source for clip in clips)
    before = dict(zip(counts, accumulate(counts.values(), initial=0), strict=False))
    first = {source for source, earlier in before.items() if earlier < count}
    return [clip for clip in clips if clip.source in first], [clip for clip in clips if clip.source not in first]


def _images(
    clips: Sequence[Clip], params: SpectrogramParams, title: str, console: Console
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Label and image, uint8 [mels, frames, channels], of the first 3 s of each clip that can be read."""
    heard = each_heard(clips, lambda clip: hear(clip.path, params).back_to_back[0](), [], title, console=console)
    return ((clip.label, image) for clip, image in heard)


def _batches(
    labelled: Iterator[tuple[str, NDArray[np.uint8]]],
) -> Iterator[tuple[list[str], NDArray[np.uint8]]]:
    while some := list(islice(labelled, _BATCH)):
        yield [label for label, _ in some], np.stack([image for _, image in some])


def _scores(engine: OpenVinoEngine, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    scores: NDArray[np.float32] = engine.run(SIGNATURE, {"spectrogram": images}, ["scores"])["scores"]
    return scores


def _class_names(engine: OpenVinoEngine, images: NDArray[np.uint8]) -> list[str]:
    names = engine.run(SIGNATURE, {"spectrogram": images}, ["classes"])["classes"]
    return [name.decode() for name in names[0]]
