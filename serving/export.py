"""Writes a network as a SavedModel version that TensorFlow Serving runs unchanged.

The version brings everything a client needs: both signatures, the class names, the spectrogram's parameters, the card.
It appears whole or not at all: it is written beside its place and renamed into it.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from earshot.audio import SEGMENT_SAMPLES
from earshot.spectrogram import DEFAULT_PARAMS
from serving.failures import ExportError, VersionTaken
from serving.folding import fold_batch_norm
from serving.layout import CARD_FILE, CLASSES_FILE, EXTRA_FOLDER, SPECTROGRAM_FILE, WARMUP_FILE
from serving.modelserver.signatures import DEFAULT_SIGNATURE
from serving.spectrogram_graph import spectrogram_graph
from serving.warmup import write_warmup

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from earshot.spectrogram import SpectrogramParams

PCM_SIGNATURE = "pcm"


def export_saved_model(
    network: Any,
    class_names: Sequence[str],
    version_dir: Path,
    params: SpectrogramParams = DEFAULT_PARAMS,
    card: str = "",
    thresholds: Sequence[float] | None = None,
    extra: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Write `network` as the SavedModel `version_dir` (a numeric folder that does not exist yet), and return its path.

    `network` is a Keras model: float32 [batch, mels, frames, channels], the image's values 0 to 255, to softmax scores
    float32 [batch, classes]. The signatures are

    - `serving_default`: `spectrogram` uint8 [batch, mels, frames, channels]
    - `pcm`: `pcm` int16 [batch, 48000]

    and both answer `scores` float32 [batch, classes], `classes` string [batch, classes] and `thresholds` float32
    [batch, classes]: below its threshold a class is to be called unknown. None are all 0. `extra` is the text of
    further files of the version, by their place within it, which is under `assets.extra/`.
    Raises VersionTaken where there is something in its place, ExportError where the folder is not a version, the
    network's shapes do not fit, or a further file would stand elsewhere or in the place of one of its own.
    """
    version_dir = Path(version_dir)
    thresholds = [0.0] * len(class_names) if thresholds is None else list(thresholds)
    _check(network, class_names, version_dir, params, thresholds)
    _check_extra(extra)
    version_dir.parent.mkdir(parents=True, exist_ok=True)
    # Not a number, so no server takes the unfinished folder for a version.
    unfinished = Path(tempfile.mkdtemp(prefix=f".{version_dir.name}-", dir=version_dir.parent))
    try:
        _save(network, class_names, unfinished, params, thresholds)
        _write_assets(class_names, unfinished, params, {CARD_FILE: card, **extra})
        unfinished.chmod(0o755)  # a server under another user reads it too
        taken = VersionTaken(f"{version_dir} appeared meanwhile; export to another version number")
        if os.path.lexists(version_dir):
            raise taken
        try:
            unfinished.rename(version_dir)
        except OSError:
            if os.path.lexists(version_dir):
                raise taken from None
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return version_dir


def _check(
    network: Any, class_names: Sequence[str], version_dir: Path, params: SpectrogramParams, thresholds: Sequence[float]
) -> None:
    if not version_dir.name.isdigit():
        raise ExportError(f"{version_dir} is no version: the folder's name must be a number")
    if os.path.lexists(version_dir):
        raise VersionTaken(f"{version_dir} exists; a version is never overwritten, export to a higher number")
    if len(set(class_names)) != len(class_names):
        raise ExportError("class names must differ from one another")
    if any("\n" in name or not name for name in class_names):
        raise ExportError("a class name must be one line that is not empty")
    image = (params.mels, params.frames(), params.channels)
    takes = tuple(network.input_shape[1:])
    if len(takes) != len(image) or any(a not in (None, b) for a, b in zip(takes, image, strict=True)):
        raise ExportError(f"the network takes images {takes}, the spectrogram's parameters make {image}")
    if network.output_shape[1:] != (len(class_names),):
        raise ExportError(f"the network gives {network.output_shape[1:]} scores for {len(class_names)} class names")
    if len(thresholds) != len(class_names) or not all(0 <= least <= 1 for least in thresholds):
        raise ExportError(f"{len(class_names)} classes need as many thresholds from 0 to 1, not {list(thresholds)}")


def _check_extra(extra: Mapping[str, str]) -> None:
    own = {CARD_FILE, CLASSES_FILE, SPECTROGRAM_FILE, WARMUP_FILE}
    for name in extra:
        if name in own or name != f"{EXTRA_FOLDER}/{Path(name).name}":
            raise ExportError(f"a version has no room for a further file {name}; choose a name under {EXTRA_FOLDER}/")


def _save(
    network: Any, class_names: Sequence[str], folder: Path, params: SpectrogramParams, thresholds: Sequence[float]
) -> None:
    image_shape = [None, params.mels, params.frames(), params.channels]
    network = fold_batch_norm(network)
    names = tf.constant(list(class_names))
    least = tf.constant(list(thresholds), dtype=tf.float32)

    def answer(image: Any) -> dict[str, Any]:
        scores = tf.ensure_shape(network(tf.cast(image, tf.float32), training=False), [None, len(class_names)])
        each = [tf.shape(scores)[0], 1]
        return {
            "scores": scores,
            "classes": tf.tile(names[tf.newaxis], each),
            "thresholds": tf.tile(least[tf.newaxis], each),
        }

    def from_spectrogram(spectrogram: Any) -> dict[str, Any]:
        return answer(spectrogram)

    def from_pcm(pcm: Any) -> dict[str, Any]:
        return answer(spectrogram_graph(pcm, params))

    image = tf.TensorSpec(image_shape, tf.uint8, name="spectrogram")
    sound = tf.TensorSpec([None, SEGMENT_SAMPLES], tf.int16, name="pcm")
    # No control flow of Python is in there, and looking for it would take longer than tracing.
    signatures = {
        DEFAULT_SIGNATURE: tf.function(from_spectrogram, input_signature=[image], autograph=False),
        PCM_SIGNATURE: tf.function(from_pcm, input_signature=[sound], autograph=False),
    }
    # Variables, not constants: with its weights in the graph an Inception V3 took 2.7 GB to load instead of 0.7.
    module = tf.Module()
    module.weights = [weight.value for weight in network.weights]
    try:
        tf.saved_model.save(module, str(folder), signatures)
    except tf.errors.OpError as error:
        raise ExportError(f"cannot write {folder} ({error.message}); is the disk full?") from error


def _write_assets(
    class_names: Sequence[str], folder: Path, params: SpectrogramParams, texts: Mapping[str, str]
) -> None:
    (folder / EXTRA_FOLDER).mkdir()
    (folder / CLASSES_FILE).write_text("".join(f"{name}\n" for name in class_names), encoding="utf-8")
    (folder / SPECTROGRAM_FILE).write_text(json.dumps(params.to_json(), indent=2) + "\n", encoding="utf-8")
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    image = np.zeros((1, params.mels, params.frames(), params.channels), dtype=np.uint8)
    silence = np.zeros((1, SEGMENT_SAMPLES), dtype=np.int16)
    write_warmup(folder, {DEFAULT_SIGNATURE: {"spectrogram": image}, PCM_SIGNATURE: {"pcm": silence}})
