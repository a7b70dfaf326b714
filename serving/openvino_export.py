"""Writes a version's SavedModel for OpenVINO: its network frozen, and what the SavedModel answers to a few sounds.

A program that `serving.conversion` runs. OpenVINO gets the network alone: it frees its memory twice where a graph has
strings (2026.4), and its FFT took five times as long as the whole network. So what does not depend on the input, such
as class names, is written down once, and PCM becomes an image by `earshot.spectrogram`, the definition that the graph
follows. That both hold of this very version is checked here.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import tensorflow as tf
from openvino import opset13 as operations
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from earshot.audio import SAMPLE_RATE_HZ, SEGMENT_SAMPLES, pcm16
from earshot.spectrogram import spectrogram
from serving.conversion import (
    ANSWERS_FILE,
    NETWORK_FILE,
    UNSUPPORTED,
    Kind,
    Takes,
    spectrogram_params,
    write_about,
)

SOUND_BOUND = 5e-3
"""How far scores of a sound may be from those of its image: a pixel on a rounding edge may differ by one step."""
_FROZEN_FILE = "frozen.pb"

Answers = dict[str, np.ndarray[Any, Any]]


class Unsupported(ValueError):
    """The version is none of those that `serving.export` writes; the message says in what."""


def main(version_dir: Path, folder: Path) -> None:
    """Convert the version into `folder`, which is empty; raises Unsupported."""
    params = spectrogram_params(version_dir)
    signatures = _load(version_dir)
    takes = {name: _takes(name, signature) for name, signature in signatures.items()}
    by_kind = {each.kind: name for name, each in takes.items()}
    if Kind.IMAGE not in by_kind:
        raise Unsupported("no signature takes spectrograms, uint8 [batch, mels, frames, channels]")

    def ask(signature: str, values: np.ndarray[Any, Any]) -> Answers:
        answers = signatures[signature](**{takes[signature].name: tf.constant(values)})
        return {name: value.numpy() for name, value in answers.items()}

    sounds = probe_sounds()
    images = np.stack([spectrogram(sound, params) for sound in sounds])
    answers = ask(by_kind[Kind.IMAGE], images)
    computed = sorted(name for name, rows in answers.items() if not _all_alike(rows))
    repeated = sorted(set(answers) - set(computed))
    if Kind.SOUND in by_kind:
        _require_alike(answers, ask(by_kind[Kind.SOUND], sounds), computed)
    _freeze(signatures[by_kind[Kind.IMAGE]], takes[by_kind[Kind.IMAGE]].name, computed, folder)
    arrays = {
        "images": images,
        **{f"answer/{name}": answers[name] for name in computed},
        **{f"repeated/{name}": _without_objects(answers[name][0]) for name in repeated},
    }
    np.savez_compressed(folder / ANSWERS_FILE, allow_pickle=False, **arrays)
    write_about(folder, takes, computed, repeated, params)


def probe_sounds() -> np.ndarray[Any, np.dtype[np.int16]]:
    """Sounds that differ from one another: int16 [6, 48000]."""
    seconds = np.arange(SEGMENT_SAMPLES) / SAMPLE_RATE_HZ
    noise = 0.1 * np.random.default_rng(0).standard_normal(SEGMENT_SAMPLES)
    sounds = (
        noise,
        0.5 * np.sin(2 * np.pi * 440 * seconds) + 0.01 * noise,
        0.3 * np.sin(2 * np.pi * (600 + 300 * np.sin(2 * np.pi * seconds)) * seconds) + 0.1 * noise,  # a siren's sweep
        noise * np.exp(-20 * (seconds % 1.0)),  # three knocks
        noise * (seconds % 0.125 < 0.05),  # a hammer's rattle
        np.cumsum(noise) / 100,  # a rumble
    )
    return pcm16(np.stack(sounds))


def _load(version_dir: Path) -> dict[str, Any]:
    try:
        loaded = tf.saved_model.load(str(version_dir), tags=["serve"])
    except (OSError, RuntimeError, ValueError, tf.errors.OpError) as error:
        raise Unsupported(f"{version_dir} cannot be loaded ({str(error).partition(chr(10))[0]})") from error
    signatures = dict(loaded.signatures)
    for signature in signatures.values():
        signature.loaded = loaded  # the functions do not keep the variables alive
    return signatures


def _takes(name: str, signature: Any) -> Takes:
    inputs = signature.structured_input_signature[1]
    if len(inputs) == 1:
        ((key, spec),) = inputs.items()
        if spec.dtype == tf.uint8 and spec.shape.rank == 4:
            return Takes(Kind.IMAGE, key)
        if spec.dtype == tf.int16 and spec.shape.rank == 2 and spec.shape[1] == SEGMENT_SAMPLES:
            return Takes(Kind.SOUND, key)
    raise Unsupported(f"signature {name!r} takes neither spectrograms nor PCM of 3 s alone")


def _all_alike(rows: np.ndarray[Any, Any]) -> bool:
    return bool((rows == rows[:1]).all())


def _require_alike(of_images: Answers, of_sounds: Answers, computed: list[str]) -> None:
    """Raise Unsupported where PCM is not answered as its image is."""
    if set(of_images) != set(of_sounds):
        raise Unsupported("its signatures have different outputs")
    for name, rows in of_images.items():
        if name not in computed and not (of_sounds[name] == rows).all():
            raise Unsupported(f"its signatures have different {name}")
    apart = max((float(np.abs(of_images[name] - of_sounds[name]).max()) for name in computed), default=0.0)
    if not apart <= SOUND_BOUND:
        raise Unsupported(f"it makes other images of PCM than earshot.spectrogram: answers are {apart:.4f} apart")


def _freeze(signature: Any, key: str, computed: list[str], folder: Path) -> None:
    """Write what computes `computed` of the input `key`, with the variables' values in it."""

    def network(image: Any) -> list[Any]:
        answers = signature(**{key: image})
        return [answers[name] for name in computed]

    spec = signature.structured_input_signature[1][key]
    # There is no public function for it; the public tf.lite converter calls the same one.
    frozen = convert_variables_to_constants_v2(
        tf.function(network, input_signature=[spec], autograph=False).get_concrete_function()
    )
    path = folder / _FROZEN_FILE
    path.write_bytes(frozen.graph.as_graph_def().SerializeToString())
    model = ov.Core().read_model(path)
    _gather_what_is_reversed(model)
    outputs = [next(each for each in model.outputs if output.name in each.get_names()) for output in frozen.outputs]
    ov.save_model(ov.Model(outputs, model.get_parameters()), folder / NETWORK_FILE, compress_to_fp16=False)
    path.unlink()


def _gather_what_is_reversed(model: ov.Model) -> None:
    """Turn images around by taking their rows in reverse order: OpenVINO's own reversal took a quarter of the time."""
    for node in model.get_ordered_ops():
        if node.get_type_name() == "ReverseSequence":
            turned, axis = node.input(0).get_source_output(), node.get_attributes()["seq_axis"]
            last = turned.get_partial_shape()[axis].get_length() - 1
            rows = operations.constant(np.arange(last, -1, -1, dtype=np.int32))
            gathered = operations.gather(turned, rows, operations.constant(np.int32(axis)))
            node.output(0).replace(gathered.output(0))


def _without_objects(row: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return row.astype(np.bytes_) if row.dtype == object else row


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except Unsupported as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(UNSUPPORTED) from None
