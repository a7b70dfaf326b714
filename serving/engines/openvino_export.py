"""Writes a version's SavedModel for OpenVINO: its network frozen, and what the SavedModel answers to a few sounds.

`conversion_process` runs it. OpenVINO gets the network alone: it frees its memory twice where a graph has
strings (2026.4), and its FFT took five times as long as the whole network. So what does not depend on the input's
values, such as class names, is written down once, and PCM becomes an image by `earshot.spectrogram`, the definition
that the graph follows. What depends on the input is read off the graph; that PCM is answered as its image is, and a
batch row by row, is checked on a few sounds.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov
import tensorflow as tf
from openvino import opset13 as operations
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from earshot.audio import SAMPLE_RATE_HZ, SEGMENT_SAMPLES, pcm16
from earshot.spectrogram import spectrogram
from serving.engines.conversion import (
    ANSWERS_FILE,
    NETWORK_FILE,
    Kind,
    Takes,
    Unsupported,
    spectrogram_params,
    write_about,
)
from serving.engines.openvino_core import CORE
from serving.failures import CannotLoadNow

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

SOUND_BOUND = 5e-3
"""How far scores of a sound may be from those of its image: a pixel on a rounding edge may differ by one step."""
_FROZEN_FILE = "frozen.pb"
_OF_SHAPES = ("Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike")
"""Operations whose outcome the shape of their input decides, not its values."""
_LARGE = 10_000
"""Bytes of a constant that says nothing of shapes."""

Answers = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, slots=True)
class _Signature:
    """A signature that can be asked."""

    takes: Takes
    function: Any

    def ask(self, values: np.ndarray[Any, Any]) -> Answers:
        answers = self.function(**{self.takes.name: tf.constant(values)})
        return {name: value.numpy() for name, value in answers.items()}

    def freeze(self) -> _Frozen:
        names = sorted(self.function.structured_outputs)

        def network(values: Any) -> list[Any]:
            answers = self.function(**{self.takes.name: values})
            return [answers[name] for name in names]

        spec = self.function.structured_input_signature[1][self.takes.name]
        # There is no public function for it; the public tf.lite converter calls the same one.
        frozen = convert_variables_to_constants_v2(
            tf.function(network, input_signature=[spec], autograph=False).get_concrete_function()
        )
        return _Frozen(frozen.graph, frozen.inputs[0], dict(zip(names, frozen.outputs, strict=True)))


@dataclass(frozen=True, slots=True)
class _Frozen:
    """A signature's graph with the variables' values in it."""

    graph: Any
    values: Any
    """Its one input."""
    outputs: dict[str, Any]

    def dependent(self) -> set[str]:
        """The outputs that may depend on the values of the input, and not only on its shape."""
        # For a batch of a certain size TensorFlow knows every shape that the values do not decide.
        graph = self.graph.as_graph_def()
        _let_go_of_weights(graph)
        with tf.Graph().as_default():
            values = tf.compat.v1.placeholder(self.values.dtype, [2, *self.values.shape[1:]])
            outputs = tf.graph_util.import_graph_def(
                graph,
                input_map={self.values.name: values},
                return_elements=[output.name for output in self.outputs.values()],
            )
        behind = {name: _behind([output]) for name, output in zip(self.outputs, outputs, strict=True)}
        return {
            name
            for name, found in behind.items()
            if values.op in found or any(each.op_def.is_stateful for each in found)
        }

    def write(self, names: Collection[str], file: Path) -> None:
        """Write the graph of these outputs, and nothing that they do not need."""
        needed = {each.name for each in _behind((self.outputs[name] for name in names), through_shapes=True)}
        graph = self.graph.as_graph_def()
        nodes = [node for node in graph.node if node.name in needed]
        del graph.node[:]
        graph.node.extend(nodes)
        file.write_bytes(graph.SerializeToString())


def export(version_dir: Path, folder: Path) -> None:
    """Convert the version into `folder`, which is empty.

    Raises Unsupported, CannotLoadNow, or OSError or MemoryError where there is no room.
    """
    try:
        _export(version_dir, folder)
    except tf.errors.ResourceExhaustedError as error:
        raise CannotLoadNow(f"no room to convert {version_dir} ({_first_line(error)})") from error


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


def _export(version_dir: Path, folder: Path) -> None:
    params = spectrogram_params(version_dir)
    signatures = {name: _Signature(_takes(name, each), each) for name, each in _load(version_dir).items()}
    first = next((each for each in signatures.values() if each.takes.kind is Kind.IMAGE), None)
    if first is None:
        raise Unsupported("no signature takes spectrograms, uint8 [batch, mels, frames, channels]")
    sounds = probe_sounds()
    images = np.stack([spectrogram(sound, params) for sound in sounds])
    answers = first.ask(images)
    others = [each for each in signatures.values() if each is not first]
    dependent_of = [each.freeze().dependent() for each in others]
    gc.collect()  # each is a copy of the weights
    frozen = first.freeze()
    computed = sorted(frozen.dependent())
    repeated = sorted(set(answers) - set(computed))
    _require_convertible(answers, computed)
    _require_rows(answers, first.ask(images[:1]), len(images), computed)
    for each, dependent in zip(others, dependent_of, strict=True):
        own = each.ask(images if each.takes.kind is Kind.IMAGE else sounds)
        _require_alike(answers, own, computed, dependent)
    _write_network(frozen, computed, folder)
    arrays = {
        "images": images,
        **{f"answer/{name}": answers[name] for name in computed},
        **{f"repeated/{name}": _without_objects(answers[name][0]) for name in repeated},
    }
    np.savez_compressed(folder / ANSWERS_FILE, allow_pickle=False, **arrays)
    write_about(folder, {name: each.takes for name, each in signatures.items()}, computed, repeated, params)


def _load(version_dir: Path) -> dict[str, Any]:
    try:
        loaded = tf.saved_model.load(str(version_dir), tags=["serve"])
    except tf.errors.ResourceExhaustedError:
        raise
    except (OSError, RuntimeError, ValueError, tf.errors.OpError) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # the system's, where TensorFlow's own have no number
        raise Unsupported(f"{version_dir} cannot be loaded ({_first_line(error)})") from error
    signatures = dict(loaded.signatures)
    for signature in signatures.values():
        signature.loaded = loaded  # the functions do not keep the variables alive
    return signatures


def _takes(name: str, signature: Any) -> Takes:
    inputs = signature.structured_input_signature[1]
    if len(inputs) == 1:
        ((key, spec),) = inputs.items()
        if spec.dtype == tf.uint8 and spec.shape.rank == 4 and spec.shape[1:].is_fully_defined():
            return Takes(Kind.IMAGE, key)
        if spec.dtype == tf.int16 and spec.shape.rank == 2 and spec.shape[1] == SEGMENT_SAMPLES:
            return Takes(Kind.SOUND, key)
    raise Unsupported(f"signature {name!r} takes neither spectrograms of one size nor PCM of 3 s alone")


def _behind(tensors: Iterable[Any], *, through_shapes: bool = False) -> set[Any]:
    """The operations that tensors come of.

    through_shapes: also those that give nothing but a shape which is known without running them.
    """
    found: set[Any] = set()
    ahead = [tensor.op for tensor in tensors]
    while ahead:
        operation = ahead.pop()
        if operation in found:
            continue
        found.add(operation)
        known = operation.type in _OF_SHAPES and all(taken.shape.is_fully_defined() for taken in operation.inputs)
        if through_shapes or not known:
            # Which branch runs, and so what comes of it, is said by control inputs alone.
            ahead += [*(taken.op for taken in operation.inputs), *operation.control_inputs]
    return found


def _let_go_of_weights(graph: Any) -> None:
    """Leave of large constants what is to be known of their shape."""
    for node in graph.node:
        if node.op == "Const" and node.ByteSize() > _LARGE:
            node.attr["shape"].shape.CopyFrom(node.attr["value"].tensor.tensor_shape)
            del node.attr["value"]
            node.op = "Placeholder"


def _require_convertible(answers: Answers, computed: list[str]) -> None:
    """Raise Unsupported unless what depends on the input is what OpenVINO is asked to compute."""
    if not computed:
        raise Unsupported("none of its outputs depends on what it is asked")
    for name in computed:
        if answers[name].dtype != np.float32:
            kind = "string" if answers[name].dtype == object else answers[name].dtype
            raise Unsupported(f"output {name!r} depends on the input and is {kind}, where only float32 is converted")


def _require_rows(answers: Answers, alone: Answers, number: int, computed: list[str]) -> None:
    """Raise Unsupported unless each image has a row of its own in every output, whatever it is asked with.

    answers: to so many images; alone: to the first alone.
    """
    for name, rows in answers.items():
        has_rows = rows.ndim > 0 and len(rows) == number and alone[name].shape == rows[:1].shape
        if has_rows and name in computed:
            has_rows = np.allclose(alone[name], rows[:1], rtol=1e-3, atol=1e-4)
        elif has_rows:
            has_rows = bool((rows == alone[name]).all())
        if not has_rows:
            raise Unsupported(f"output {name!r} has not one row for each image that depends on that image alone")


def _require_alike(of_first: Answers, own: Answers, computed: list[str], dependent: set[str]) -> None:
    """Raise Unsupported where a signature does not answer as the first that takes images does.

    own: its answers to the same; dependent: its outputs that depend on the input.
    """
    if set(of_first) != set(own):
        raise Unsupported("its signatures have different outputs")
    for name, rows in of_first.items():
        if (name in computed) != (name in dependent) or (name not in computed and not (own[name] == rows).all()):
            raise Unsupported(f"its signatures have different {name}")
    apart = max(float(np.abs(of_first[name] - own[name]).max()) for name in computed)
    if not apart <= SOUND_BOUND:
        raise Unsupported(
            f"it makes other images of PCM than earshot.spectrogram, or its signatures are of different networks: "
            f"answers are {apart:.4f} apart"
        )


def _write_network(frozen: _Frozen, computed: list[str], folder: Path) -> None:
    """Write what computes `computed` as OpenVINO's model."""
    path = folder / _FROZEN_FILE
    frozen.write(computed, path)
    model = CORE.read_model(path)
    _gather_what_is_reversed(model)
    names = [frozen.outputs[name].name for name in computed]
    outputs = [next(each for each in model.outputs if name in each.get_names()) for name in names]
    try:
        ov.save_model(ov.Model(outputs, model.get_parameters()), folder / NETWORK_FILE, compress_to_fp16=False)
    except RuntimeError as error:
        if "iostream" in str(error):  # it says no more than that where a disk is full
            raise CannotLoadNow(
                f"OpenVINO cannot write into {folder} ({_first_line(error)}); is the disk full?"
            ) from error
        raise
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


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
