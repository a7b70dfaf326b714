"""Lets a network's first convolution read an image as it came, by a kernel that does what was done to the image before.

An exported network parts an image's channels, averages frames, turns the rows around and scales what is left before
its first convolution: in OpenVINO that took a quarter of the time of a network in 8 bits. All of it but the turning is
linear, so it can be in the kernel. A row of frames, each of three channels, is a row of three times as many numbers;
over these goes a kernel of one channel that is as many times as wide, and has each weight once for every frame that is
averaged. In 8 bits it reads the image's own numbers, which nothing rounds any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from openvino import opset13 as operations

if TYPE_CHECKING:
    import openvino as ov
    from numpy.typing import NDArray

_PARTED = [0, 3, 1, 2]
"""The order of axes that has channels before rows and frames."""
_ROWS = 2
"""The axis of rows, then."""


def read_as_it_came(model: ov.Model) -> bool:
    """Change `model` so, in 8 bits or not, if it begins as exported networks do; whether it does.

    What it answers stays the same but for rounding.
    """
    front = _Front.of(model)
    if front is None:
        return False
    image = front.interleaved()
    for convolution in front.convolutions:
        front.widen(convolution, image)
    model.validate_nodes_and_infer_types()
    return True


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
    convolutions: tuple[Any, ...]

    @classmethod
    def of(cls, model: ov.Model) -> _Front | None:
        """That of `model`; None where it begins in another way."""
        chain = _Chain(model.get_parameters()[0].output(0))
        image = chain.end
        parted = chain.step("Transpose")
        if parted is None or _constant(parted, 1).tolist() != _PARTED or chain.step("Convert") is None:
            return None
        pool, turn = chain.step("AvgPool"), chain.step("Gather")
        scale, shift = chain.step("Multiply"), chain.step("Add")
        chain.step("FakeQuantize")  # the image has 8 bits as it is
        averaged = tuple(pool.get_attributes()["kernel"]) if pool else (1, 1)
        means = image.get_partial_shape()[1].get_length() // averaged[0]
        order = _constant(turn, 1) if turn else np.arange(means)
        numbers = [_constant(node, 1) for node in (scale, shift) if node]
        convolutions = tuple(taker.get_node() for taker in chain.end.get_target_inputs())
        if (
            (pool and not _is_plain(pool, averaged))
            or (turn and _constant(turn, 2).tolist() != _ROWS)
            or any(number.size != 1 for number in numbers)
            or any(not _is_unpadded(each) for each in convolutions)
        ):
            return None
        rows = (order[:, np.newaxis] * averaged[0] + np.arange(averaged[0])).ravel().astype(np.int32)
        return cls(
            image,
            averaged,
            rows,
            float(_constant(scale, 1).item()) if scale else 1.0,
            float(_constant(shift, 1).item()) if shift else 0.0,
            convolutions,
        )

    def interleaved(self) -> Any:
        """The rows of the image, each of one channel in which those of the image alternate; scaled, in floats."""
        _, rows, frames, channels = list(self.image.get_partial_shape())
        length = frames.get_length() * channels.get_length()
        one = operations.reshape(
            self.image, operations.constant(np.array([0, 1, rows.get_length(), length], np.int64)), special_zero=True
        )
        used = operations.gather(one, operations.constant(self.rows), operations.constant(np.int32(2)))
        factor = np.float32(self.factor / np.prod(self.averaged))
        # The 8 bits of an image become a convolution's by this form alone, where nothing else scales them.
        return operations.multiply(operations.convert(used, "f32"), operations.constant(np.full((1, 1, 1, 1), factor)))

    def widen(self, convolution: Any, image: Any) -> None:
        """Put in the place of `convolution` one that reads `image`."""
        kernel = _Kernel.of(convolution)
        down, along = convolution.get_attributes()["strides"]
        strides = [down * self.averaged[0], along * self.averaged[1] * kernel.channels]
        made = operations.convolution(image, kernel.interleaved(self.averaged), strides, [0, 0], [0, 0], [1, 1])
        if self.offset:
            made = operations.add(made, operations.constant(np.float32(self.offset) * kernel.sums()))
        convolution.output(0).replace(made.output(0))


@dataclass(frozen=True, slots=True)
class _Kernel:
    """A convolution's, in floats or in 8 bits."""

    weights: NDArray[Any]
    """[channels out, channels in, rows, columns]"""
    step: NDArray[np.float32] | None
    """What each is multiplied by, [channels out, 1, 1, 1], where they have 8 bits."""

    @classmethod
    def of(cls, convolution: Any) -> _Kernel:
        """That of `convolution`; it has no weights where they are not known."""
        node = convolution.input_value(1).get_node()
        if node.get_type_name() != "Multiply":
            return cls(_constant(convolution, 1), None)
        return cls(_constant(node.input_value(0).get_node(), 0), _constant(node, 1))

    @property
    def channels(self) -> int:
        """Those that come in."""
        return int(self.weights.shape[1])

    def sums(self) -> NDArray[np.float32]:
        """Of the weights of each channel that comes out: [1, channels out, 1, 1]."""
        weights = self.weights if self.step is None else self.weights * self.step
        return np.sum(weights, axis=(1, 2, 3), dtype=np.float32).reshape(1, -1, 1, 1)

    def interleaved(self, averaged: tuple[int, int]) -> Any:
        """Over rows in which channels alternate, each weight once for all that are averaged, as an operation.

        It is of [channels out, 1, rows, columns * channels in].
        """
        repeated = self.weights.repeat(averaged[0], axis=2).repeat(averaged[1], axis=3).transpose(0, 2, 3, 1)
        wide = operations.constant(np.ascontiguousarray(repeated.reshape(len(repeated), 1, repeated.shape[1], -1)))
        if self.step is None:
            return wide
        return operations.multiply(operations.convert(wide, "f32"), operations.constant(self.step))


class _Chain:
    """Follows what is made of a tensor as long as it is one thing after another."""

    def __init__(self, start: ov.Output) -> None:
        self.end = start

    def step(self, kind: str) -> Any | None:
        """The one operation that takes what the last one gave, and the new end, if it is of this kind."""
        takers = list(self.end.get_target_inputs())
        if len(takers) != 1 or takers[0].get_node().get_type_name() != kind or takers[0].get_index():
            return None
        node = takers[0].get_node()
        self.end = node.output(0)
        return node


def _constant(node: Any, number: int) -> NDArray[Any]:
    """What an operation takes there, if it is known; nothing otherwise."""
    source = node.input_value(number).get_node()
    return np.asarray(source.data) if source.get_type_name() == "Constant" else np.empty(0)


def _is_plain(pool: Any, averaged: tuple[int, ...]) -> bool:
    """Whether it takes means side by side, of nothing that is not there."""
    values = pool.get_attributes()
    padded = any((*values["pads_begin"], *values["pads_end"]))
    return tuple(values["strides"]) == averaged and not padded and values["rounding_type"] == "floor"


def _is_unpadded(node: Any) -> bool:
    """Whether it is a convolution with a known kernel and none but an image's own numbers in it."""
    if node.get_type_name() != "Convolution":
        return False
    values = node.get_attributes()
    padded = any((*values["pads_begin"], *values["pads_end"]))
    return _Kernel.of(node).weights.ndim == 4 and not padded and set(values["dilations"]) == {1}
