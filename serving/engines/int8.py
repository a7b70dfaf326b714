"""A network in 8 bits: the ranges that its activations keep to, measured on training clips, and what is made of them.

OpenVINO runs a convolution in 8 bits whose kernel has 8 bits and whose input passes through a FakeQuantize of 256
levels. Kernels need no data; the ranges of the inputs are a few dozen numbers, which travel with the version as a file.
The head stays in floats: its weights span too much for 8 bits.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import openvino as ov
from openvino import opset13 as operations

from serving.layout import INT8_FILE
from serving.wholefile import whole_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

LEAST_AGREEMENT = 0.95
"""Share of clips that 8 bits have to name as float32 does. Of two folds unseen by the model it was 0.979 and 0.970, and
how often they were right differed by 0.0 and 0.1 points: what they name differently are clips whose best two scores
are next to equal."""

_LEVELS = 256
_KERNEL_MOST = 127
_TINY = 1e-12
_UNCHANGING = ("MaxPool", "Concat", "Transpose")
"""Operations that pass values on as they are, so what they take can be in 8 bits instead of what they give."""


class NotQuantised(ValueError):
    """A version cannot be run in 8 bits; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Range:
    """The values of one activation."""

    shape: tuple[int, ...]
    """[channels, rows, columns]"""
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Int8:
    """What a version needs to be run in 8 bits, and how near that is to float32."""

    ranges: tuple[Range, ...]
    """Of each activation that becomes 8 bits, in the order in which the network comes to them."""
    calibrated_on: int
    """Clips that the ranges were measured on."""
    clips: int
    """Other clips, on which float32 and 8 bits were compared."""
    unseen: bool
    """Whether the model was not trained on the recordings of those."""
    agreement: float
    """Share of them that both name alike."""
    accuracy_float32: float
    """Share of them named right."""
    accuracy_int8: float

    @classmethod
    def read(cls, version_dir: Path) -> Self:
        """What the version brings; raises NotQuantised where it brings nothing, or agrees too little."""
        path = version_dir / INT8_FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            ranges = (Range(tuple(each["shape"]), float(each["low"]), float(each["high"])) for each in values["ranges"])
            read = cls(**{**values, "ranges": tuple(ranges), "agreement": float(values["agreement"])})
        except FileNotFoundError:
            raise NotQuantised(
                f"{version_dir} brings no {INT8_FILE}, without which it cannot be run in 8 bits; {_MAKE_IT}"
            ) from None
        except (KeyError, TypeError, ValueError) as error:
            raise NotQuantised(f"{path} cannot be read ({error}); {_MAKE_IT}") from error
        read.require_agreement()
        return read

    def write(self, version_dir: Path) -> Path:
        """Put it into the version, whole or not at all, and return the file."""
        path = version_dir / INT8_FILE
        path.parent.mkdir(exist_ok=True)
        with whole_file(path) as file:
            file.write((json.dumps(asdict(self), indent=1) + "\n").encode())
        path.chmod(0o644)  # a server under another user reads it too
        return path

    def sentence(self) -> str:
        """How near 8 bits are to float32."""
        of = "that the model was not trained on" if self.unseen else "beside those that the ranges were measured on"
        return (
            f"Of {self.clips} clips {of}, 8 bits name {self.agreement:.1%} as float32 does, and "
            f"{self.accuracy_int8:.1%} right (float32: {self.accuracy_float32:.1%})."
        )

    def require_agreement(self) -> None:
        """Raise NotQuantised where 8 bits name too many clips differently."""
        if not self.agreement >= LEAST_AGREEMENT:
            raise NotQuantised(
                f"in 8 bits it names only {self.agreement:.1%} of {self.clips} clips as in float32, and at least "
                f"{LEAST_AGREEMENT:.0%} are needed; serve it with --precision bf16 or f32"
            )


_MAKE_IT = (
    "make it with `earshot models quantize --model-base-path DIR --data CLIPS`, or serve with --precision bf16 or f32"
)


def measure(model: ov.Model, images: Iterable[NDArray[np.uint8]]) -> tuple[Range, ...]:
    """The ranges of the activations of `model` over `images`, each uint8 [mels, frames, channels].

    The upper end is the mean of each image's highest value: one loud image does not make the steps coarse for all.
    Raises NotQuantised where there is no image, or nothing to run in 8 bits.
    """
    watched = model.clone()
    activations = [activation for activation, _ in _activations(watched)]
    answers = len(watched.outputs)
    watched.add_outputs(activations)
    compiled = ov.Core().compile_model(watched, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    lows, highs = [], []
    for image in images:
        seen = list(compiled([image[np.newaxis]]).values())[answers:]
        lows.append([values.min() for values in seen])
        highs.append([values.max() for values in seen])
    if not highs:
        raise NotQuantised("there is no clip to measure the network's activations on; name more with --data")
    return tuple(
        Range(_shape(activation), round(min(float(low), 0.0), 4), round(float(high), 4))
        for activation, low, high in zip(activations, np.min(lows, axis=0), np.mean(highs, axis=0), strict=True)
    )


def quantised(model: ov.Model, ranges: Sequence[Range]) -> ov.Model:
    """A copy of `model` whose convolutions run in 8 bits; raises NotQuantised where `ranges` are another network's."""
    model = model.clone()
    activations = _activations(model)
    if [_shape(activation) for activation, _ in activations] != [each.shape for each in ranges]:
        raise NotQuantised(f"its {INT8_FILE} was made for another network; {_MAKE_IT}")
    together: defaultdict[str, list[Range]] = defaultdict(list)
    for (_, group), own in zip(activations, ranges, strict=True):
        together[group].append(own)
    for activation, group in activations:
        ends = (min(own.low for own in together[group]), max(own.high for own in together[group]))
        low, high = (operations.constant(np.float32(end)) for end in ends)
        takers = activation.get_target_inputs()
        in_8_bits = operations.fake_quantize(activation, low, high, low, high, _LEVELS)
        for taker in takers:
            taker.replace_source_output(in_8_bits.output(0))
    for convolution in _convolutions(model):
        kernel = convolution.input(1).get_source_output().get_node().data  # [channels out, channels in, rows, columns]
        step = np.maximum(np.abs(kernel).max(axis=(1, 2, 3), keepdims=True), _TINY) / _KERNEL_MOST
        levels = operations.constant(np.rint(kernel / step).astype(np.int8))
        restored = operations.multiply(operations.convert(levels, "f32"), operations.constant(step.astype(np.float32)))
        convolution.input(1).replace_source_output(restored.output(0))
    model.validate_nodes_and_infer_types()
    return model


def _activations(model: ov.Model) -> list[tuple[ov.Output, str]]:
    """What is to become 8 bits for the convolutions to run in them, and the name of its group.

    Those of a group are joined further on, and keep to one range. Raises NotQuantised where there is none.
    """
    found: dict[str, ov.Output] = {}
    group_of: dict[str, str] = {}

    def trace(output: ov.Output) -> list[str]:
        """Names of the activations that `output` consists of."""
        node = output.get_node()
        if node.get_type_name() not in _UNCHANGING:
            found.setdefault(node.get_name(), output)
            group_of.setdefault(node.get_name(), node.get_name())
            return [node.get_name()]
        values = node.inputs() if node.get_type_name() == "Concat" else node.inputs()[:1]
        names = [name for taken in values for name in trace(taken.get_source_output())]
        groups = {group_of[name] for name in names}
        group_of.update({name: group_of[names[0]] for name, group in group_of.items() if group in groups})
        return names

    for convolution in _convolutions(model):
        trace(convolution.input(0).get_source_output())
    if not found:
        raise NotQuantised("its network has no convolution, and nothing else is run in 8 bits; serve it as f32 or bf16")
    return [(output, group_of[name]) for name, output in found.items()]


def _convolutions(model: ov.Model) -> list[Any]:
    """The convolutions with a kernel that is known, in an order that only the network decides: inputs come first."""
    found = []
    visited: set[str] = set()
    ahead = [(result, False) for result in reversed(model.get_results())]
    while ahead:
        node, inputs_done = ahead.pop()
        if inputs_done:
            found.append(node)
        elif node.get_name() not in visited:
            visited.add(node.get_name())
            inputs = [taken.get_source_output().get_node() for taken in node.inputs()]
            if node.get_type_name() == "Convolution" and inputs[1].get_type_name() == "Constant":
                ahead.append((node, True))
            ahead += [(each, False) for each in reversed(inputs)]
    return found


def _shape(activation: ov.Output) -> tuple[int, ...]:
    return tuple(size.get_length() for size in list(activation.get_partial_shape())[1:])
