"""A network in 8 bits: what its activations are like, measured on training clips, and what is made of that.

OpenVINO runs a convolution in 8 bits whose kernel has 8 bits and whose input passes through a FakeQuantize of 256
levels, or has 8 bits as it is, as an image (`first_convolution`). For that the ranges of the inputs are needed. A
rounded kernel answers a little more or less than it should, of all sounds alike in the mean; that is taken off again
(bias correction: Nagel et al. 2019). Both travel with the version as a file. The head stays in floats: its weights span
too much for 8 bits.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import openvino as ov
from openvino import opset13 as operations

from serving.engines.openvino_core import CORE
from serving.layout import INT8_FILE
from serving.wholefile import whole_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

LEAST_AGREEMENT = 0.95
"""Share of clips that 8 bits have to name as float32 does. Of two folds unseen by the model it was 0.990 and 0.985, and
how often they were right differed by 0.5 points: what they name differently are clips whose best two scores are next to
equal."""

ROUNDED = "8 bits of "
"""What the names of the operations begin with that `quantised` puts behind activations."""
_DEVIATIONS = 2
"""Of the highest values, above their mean. Scores of training clips that ranges were not measured on were off by 0.0021
(root mean square; two networks, four draws of 200 clips), by 0.0023 with one and 0.0026 up to the highest of all."""
_LEVELS = 256
_KERNEL_MOST = 127
_TINY = 1e-12
_SAME = 1e-4
"""By which a kernel's root mean square may differ, as one machine folds batch normalisation into it and another."""
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
class Calibration:
    """What a network's activations were found to be like, and the bias correction that rounding its kernels needs."""

    ranges: tuple[Range, ...]
    """Of each activation that becomes 8 bits, in the order in which the network comes to them."""
    corrections: tuple[tuple[float, ...], ...]
    """Of each convolution, in that order too: what rounding its kernel adds to each channel that comes out, in the mean
    over sounds and places, and is taken off again."""
    kernels: tuple[float, ...]
    """Root mean square of each convolution's kernel: by them a network is known again whose weights these are of."""

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """What `asdict` made of one; raises KeyError, TypeError or ValueError where it made something else."""
        return cls(
            tuple(Range(tuple(one["shape"]), float(one["low"]), float(one["high"])) for one in values["ranges"]),
            tuple(tuple(map(float, each)) for each in values["corrections"]),
            tuple(map(float, values["kernels"])),
        )


@dataclass(frozen=True, slots=True)
class Int8:
    """What a version needs to be run in 8 bits, and how near that is to float32."""

    calibration: Calibration
    calibrated_on: int
    """Clips that it was measured on."""
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
            if "ranges" in values or "shifts" in (values["calibration"] or ()):
                raise NotQuantised(f"{path} was made by an earlier Earshot; {_MAKE_IT} again")
            calibration = Calibration.from_json(values["calibration"])
            read = cls(**{**values, "calibration": calibration, "agreement": float(values["agreement"])})
        except FileNotFoundError:
            raise NotQuantised(
                f"{version_dir} brings no {INT8_FILE}, without which it cannot be run in 8 bits; {_MAKE_IT}"
            ) from None
        except NotQuantised:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise NotQuantised(f"{path} cannot be read ({error}); {_MAKE_IT}") from error
        read.require_agreement()
        return read

    def write(self, version_dir: Path) -> Path:
        """Put it into the version, whole or not at all, and return the file."""
        path = version_dir / INT8_FILE
        path.parent.mkdir(exist_ok=True)
        with whole_file(path) as file:
            file.write((json.dumps(asdict(self)) + "\n").encode())
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


def measure(model: ov.Model, images: Iterable[NDArray[np.uint8]]) -> Calibration:
    """What `model` is like over `images`, each uint8 [mels, frames, channels].

    The upper end of a range is two standard deviations above the mean of each image's highest value, and not beyond the
    highest of all: one loud image does not make the steps coarse for all. Raises NotQuantised where there is no image,
    or nothing to run in 8 bits.
    """
    watched = model.clone()
    activations = [activation for activation, _ in _activations(watched)]
    inputs = [convolution.input(0).get_source_output() for convolution in _convolutions(watched)]
    each_once = {_name(output): output for output in (*activations, *inputs)}
    answers = len(watched.outputs)
    watched.add_outputs(list(each_once.values()))
    compiled = CORE.compile_model(watched, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    lows, highs, means = [], [], []
    for image in images:
        seen = dict(zip(each_once, list(compiled([image[np.newaxis]]).values())[answers:], strict=True))
        lows.append([seen[_name(activation)].min() for activation in activations])
        highs.append([seen[_name(activation)].max() for activation in activations])
        means.append([seen[_name(taken)].mean(axis=(0, 2, 3)) for taken in inputs])
    if not highs:
        raise NotQuantised("there is no clip to measure the network's activations on; name more with --data")
    low = np.minimum(np.min(lows, axis=0), 0.0)
    high = np.minimum(np.mean(highs, axis=0) + _DEVIATIONS * np.std(highs, axis=0), np.max(highs, axis=0))
    ranges = zip(map(_shape, activations), low.tolist(), high.tolist(), strict=True)
    kernels = [_kernel(convolution) for convolution in _convolutions(model)]
    return Calibration(
        tuple(Range(shape, round(lowest, 4), round(highest, 4)) for shape, lowest, highest in ranges),
        tuple(_correction(kernel, np.mean(own, axis=0)) for kernel, *own in zip(kernels, *means, strict=True)),
        tuple(_size(kernel) for kernel in kernels),
    )


def quantised(model: ov.Model, calibration: Calibration) -> ov.Model:
    """A copy of `model` whose convolutions run in 8 bits; raises NotQuantised for another network's calibration."""
    model = model.clone()
    activations, convolutions = _activations(model), _convolutions(model)
    shapes = [_shape(activation) for activation, _ in activations]
    sizes = [(len(kernel), _size(kernel)) for kernel in map(_kernel, convolutions)]
    if (
        shapes != [each.shape for each in calibration.ranges]
        or [channels for channels, _ in sizes] != [len(each) for each in calibration.corrections]
        or len(sizes) != len(calibration.kernels)
        or not np.allclose([size for _, size in sizes], calibration.kernels, rtol=_SAME, atol=0)
    ):
        raise NotQuantised(f"its {INT8_FILE} was made for another network; {_MAKE_IT}")
    together: defaultdict[str, list[Range]] = defaultdict(list)
    for (_, group), own in zip(activations, calibration.ranges, strict=True):
        together[group].append(own)
    for activation, group in activations:
        ends = (min(own.low for own in together[group]), max(own.high for own in together[group]))
        low, high = (operations.constant(np.float32(end)) for end in ends)
        rounded = operations.fake_quantize(activation, low, high, low, high, _LEVELS)
        rounded.set_friendly_name(f"{ROUNDED}{activation.get_node().get_friendly_name()}")
        _replace(activation, rounded)
    for convolution, correction in zip(convolutions, calibration.corrections, strict=True):
        levels, step = _rounded(_kernel(convolution))
        floats = operations.convert(operations.constant(levels), "f32")
        restored = operations.multiply(floats, operations.constant(step))
        convolution.input(1).replace_source_output(restored.output(0))
        added = operations.constant(np.array(correction, np.float32).reshape(1, -1, 1, 1))
        _replace(convolution.output(0), operations.subtract(convolution, added))
    model.validate_nodes_and_infer_types()
    return model


def _replace(output: ov.Output, made: Any) -> None:
    """Give whatever else takes `output` what was `made` of it instead."""
    for taker in output.get_target_inputs():
        if taker.get_node().get_name() != made.get_name():
            taker.replace_source_output(made.output(0))


def _name(output: ov.Output) -> str:
    name: str = output.get_node().get_name()
    return name


def _kernel(convolution: Any) -> NDArray[np.float32]:
    """Its kernel, float32 [channels out, channels in, rows, columns]."""
    kernel: NDArray[np.float32] = convolution.input(1).get_source_output().get_node().data
    return kernel


def _rounded(kernel: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Levels of a kernel, and the step between two of them in each channel that comes out, [channels out, 1, 1, 1]."""
    step = np.maximum(np.abs(kernel).max(axis=(1, 2, 3), keepdims=True), _TINY) / _KERNEL_MOST
    return np.rint(kernel / step).astype(np.int8), step.astype(np.float32)


def _size(kernel: NDArray[np.float32]) -> float:
    return float(f"{np.sqrt(np.mean(np.square(kernel, dtype=np.float64))):.8g}")


def _correction(kernel: NDArray[np.float32], means: NDArray[np.float32]) -> tuple[float, ...]:
    """What rounding `kernel` adds to each channel that comes out: float [channels out].

    means: of each channel that comes in, over sounds and places, [channels in].
    """
    levels, step = _rounded(kernel)
    added = np.einsum("oihw,i->o", levels * step - kernel, means)
    return tuple(float(f"{one:.4g}") for one in added)


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
