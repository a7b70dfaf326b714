"""Lets a network's first convolution read an image as it came, by a kernel that does what was done to the image before.

An exported network parts an image's channels, averages mel bands and frames, turns the mel bands around and scales
what is left before its first convolution. All but the turning can be in the kernel, by which the starter model gives
1.22 times as many images a second in 8 bits, in batches of 16 (`python -m benchmarks.first_convolution`). A row of
frames, each of three channels, is a row of three times as many numbers; over these goes a kernel of one channel that is
as many times as wide and has each weight once for all that are averaged. In 8 bits it reads the image's own numbers,
which nothing rounds any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from openvino import opset13 as operations

from serving.engines.int8 import ROUNDED

if TYPE_CHECKING:
    import openvino as ov
    from numpy.typing import NDArray

_PARTED = [0, 3, 1, 2]
"""The order of axes that has channels before rows and frames."""
_ROWS = 2
"""The axis of rows, then."""


def read_as_it_came(model: ov.Model) -> bool:
    """Put what `model` does to an image before its first convolutions into their kernels; whether that could be done.

    It may be in floats or made by `int8.quantised`. What it answers stays the same but for rounding. A model that
    begins otherwise than exported networks do is left as it is.
    """
    front = _Front.of(model)
    if front is None:
        return False
    image = front.interleaved()
    for convolution, kernel in front.convolutions:
        front.widen(convolution, kernel, image)
    model.validate_nodes_and_infer_types()
    return True


@dataclass(frozen=True, slots=True)
class _Kernel:
    """The kernel of a convolution."""

    weights: NDArray[Any]
    """float32 or int8 [channels out, channels in, rows, frames]"""
    step: NDArray[np.float32] | None
    """What each is multiplied by where they have 8 bits, [channels out, 1, 1, 1]."""

    @classmethod
    def of(cls, convolution: Any) -> _Kernel | None:
        """That of `convolution`, if it is one, and known and as it is in exported networks."""
        if convolution.get_type_name() != "Convolution" or not _is_within(convolution.get_attributes()):
            return None
        made = convolution.input_value(1).get_node()
        if made.get_type_name() != "Multiply":
            weights = _constant(convolution, 1)
            if weights is None or weights.dtype != np.float32 or weights.ndim != 4:
                return None
            return cls(weights, None)
        converted, step = made.input_value(0).get_node(), _constant(made, 1)
        levels = _constant(converted, 0) if converted.get_type_name() == "Convert" else None
        if levels is None or step is None or levels.dtype != np.int8:
            return None
        return cls(levels, step) if levels.ndim == 4 and step.shape == (len(levels), 1, 1, 1) else None

    def sums(self) -> NDArray[np.float32]:
        """Of the weights of each channel that comes out: [1, channels out, 1, 1]."""
        weights = self.weights if self.step is None else self.weights * self.step
        return np.sum(weights, axis=(1, 2, 3), dtype=np.float32).reshape(1, -1, 1, 1)

    def over_rows(self, averaged: tuple[int, int]) -> NDArray[Any]:
        """The weights over rows in which channels alternate, each once for all that are averaged.

        They are [channels out, 1, rows, frames * channels in].
        """
        repeated = self.weights.repeat(averaged[0], axis=2).repeat(averaged[1], axis=3).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(repeated.reshape(len(repeated), 1, repeated.shape[1], -1))


@dataclass(frozen=True, slots=True)
class _Front:
    """What is between an image and the first convolutions."""

    image: ov.Output
    """uint8 [batch, rows, frames, channels]"""
    averaged: tuple[int, int]
    """Rows and frames of which the mean is taken."""
    rows: NDArray[np.int32]
    """Those of the image that are used, in the order in which they are gone over."""
    factor: float
    offset: float
    """What a mean is multiplied by, and what is added then."""
    convolutions: tuple[tuple[Any, _Kernel], ...]

    @classmethod
    def of(cls, model: ov.Model) -> _Front | None:
        """That of `model`; None where it begins in another way."""
        images = [parameter.output(0) for parameter in model.get_parameters()]
        if len(images) != 1 or not _is_image(images[0]):
            return None
        (image,) = images
        shape = image.get_partial_shape()
        chain = _Chain(image)
        floats = chain.step("Convert")  # before the channels are parted or behind, as the converter likes it
        parted = chain.step("Transpose")
        floats = floats or chain.step("Convert")
        pool, turn = chain.step("AvgPool"), chain.step("Gather")
        scale, shift = chain.step("Multiply"), chain.step("Add")
        chain.step("FakeQuantize", ROUNDED)  # the image has 8 bits as it is
        averaged = tuple(pool.get_attributes()["kernel"]) if pool else (1, 1)
        rows = _rows(turn, shape[1].get_length() // averaged[0])
        factor, offset = (_number(node, otherwise) for node, otherwise in ((scale, 1.0), (shift, 0.0)))
        convolutions = [(node, _Kernel.of(node)) for node in chain.taken_by()]
        known = tuple((node, kernel) for node, kernel in convolutions if kernel)
        if (
            floats is None
            or floats.get_element_type().get_type_name() != "f32"
            or parted is None
            or _order(parted) != _PARTED
            or (pool and not _is_plain(pool, averaged))
            or rows is None
            or factor is None
            or offset is None
            or len(known) < len(chain.taken_by())
        ):
            return None
        each = (rows[:, np.newaxis] * averaged[0] + np.arange(averaged[0])).ravel().astype(np.int32)
        return cls(image, averaged, each, factor, offset, known)

    def interleaved(self) -> Any:
        """The rows that are used, in floats, each of one channel in which those of the image alternate."""
        _, rows, frames, channels = list(self.image.get_partial_shape())
        length = frames.get_length() * channels.get_length()
        one = operations.reshape(
            self.image, operations.constant(np.array([0, 1, rows.get_length(), length], np.int64)), special_zero=True
        )
        used = operations.gather(one, operations.constant(self.rows), operations.constant(np.int32(_ROWS)))
        return operations.convert(used, "f32")

    def widen(self, convolution: Any, kernel: _Kernel, image: Any) -> None:
        """Put in the place of `convolution` one that reads `image`."""
        weights, factor = kernel.over_rows(self.averaged), np.float32(self.factor / np.prod(self.averaged))
        if kernel.step is None:
            wide = operations.constant(weights * factor)
        else:  # by this form alone does OpenVINO know numbers of 8 bits again
            image = operations.multiply(image, operations.constant(np.full((1, 1, 1, 1), factor)))
            floats = operations.convert(operations.constant(weights), "f32")
            wide = operations.multiply(floats, operations.constant(kernel.step))
        down, along = convolution.get_attributes()["strides"]
        strides = [down * self.averaged[0], along * self.averaged[1] * kernel.weights.shape[1]]
        made = operations.convolution(image, wide, strides, [0, 0], [0, 0], [1, 1])
        if self.offset:
            made = operations.add(made, operations.constant(np.float32(self.offset) * kernel.sums()))
        convolution.output(0).replace(made.output(0))


class _Chain:
    """Follows what is made of a tensor as long as it is one thing after another."""

    def __init__(self, start: ov.Output) -> None:
        self._end = start

    def step(self, kind: str, name: str = "") -> Any | None:
        """The one operation that takes what the last one gave, if it is of this kind and so named; the next then."""
        takers = list(self._end.get_target_inputs())
        if len(takers) != 1 or takers[0].get_index():
            return None
        node = takers[0].get_node()
        if node.get_type_name() != kind or not node.get_friendly_name().startswith(name):
            return None
        self._end = node.output(0)
        return node

    def taken_by(self) -> list[Any]:
        """All operations that take what the last one gave."""
        return [taker.get_node() for taker in self._end.get_target_inputs()]


def _is_image(taken: ov.Output) -> bool:
    """Whether it is of uint8 [batch, rows, frames, channels], known but for the batch."""
    shape = taken.get_partial_shape()
    known = shape.rank.is_static and shape.rank.get_length() == 4 and all(each.is_static for each in list(shape)[1:])
    return bool(known) and taken.get_element_type().get_type_name() == "u8"


def _constant(node: Any, number: int) -> NDArray[Any] | None:
    """What an operation takes as its input of that number, if it is a constant."""
    taken = node.input_value(number).get_node()
    return np.asarray(taken.data) if taken.get_type_name() == "Constant" else None


def _order(transpose: Any) -> list[int]:
    """That of the axes, if it is known."""
    order = _constant(transpose, 1)
    return [] if order is None else list(order)


def _number(node: Any | None, otherwise: float) -> float | None:
    """What an operation does with what it takes, if that is one number; `otherwise` where there is no operation."""
    if node is None:
        return otherwise
    number = _constant(node, 1)
    return float(number.item()) if number is not None and number.size == 1 else None


def _rows(turn: Any | None, rows: int) -> NDArray[Any] | None:
    """Which of so many rows an operation takes, in order, if it takes rows alone; all where there is no operation."""
    if turn is None:
        return np.arange(rows)
    order, axis = _constant(turn, 1), _constant(turn, 2)
    if (
        order is None
        or axis is None
        or order.ndim != 1
        or axis.tolist() != _ROWS
        or turn.get_attributes().get("batch_dims")
    ):
        return None
    return order if len(order) and order.min() >= 0 and order.max() < rows else None


def _is_plain(pool: Any, averaged: tuple[int, ...]) -> bool:
    """Whether it takes means side by side, of nothing that is not there."""
    values = pool.get_attributes()
    return tuple(values["strides"]) == averaged and values["rounding_type"] == "floor" and _is_within(values)


def _is_within(values: dict[str, Any]) -> bool:
    """Whether what has these attributes goes over numbers side by side, and none but those that are there."""
    padded = any((*values["pads_begin"], *values["pads_end"]))
    return not padded and set(values.get("dilations", ())) <= {1}
