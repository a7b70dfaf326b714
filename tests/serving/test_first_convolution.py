from __future__ import annotations

import os
from copy import deepcopy
from typing import TYPE_CHECKING, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as operations

from serving.engines.conversion import convert
from serving.engines.first_convolution import read_as_it_came
from serving.engines.int8 import measure, quantised
from serving.engines.openvino_core import CORE
from serving.export import export_saved_model
from serving.network import Architecture, Head, blocks_in, build_network, cut_inception

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

ROWS, FRAMES = 14, 23
IMAGES = np.random.default_rng(0).integers(0, 256, (4, ROWS, FRAMES, 3)).astype(np.uint8)
FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32"}


def network(
    averaged: tuple[int, int] = (1, 1),
    *,
    strides: tuple[int, int] = (1, 3),
    turned: bool = True,
    scaled: tuple[float, float] | None = (2 / 255, -1.0),
    pads: int = 0,
    dilation: int = 1,
    convolutions: int = 1,
    watched: bool = False,
    every_other: float = 1.0,
) -> ov.Model:
    """As exported networks are converted.

    watched: something else than a convolution takes what they take. every_other: share of the kernels' size that they
    have for every second channel: next to nothing keeps the sums of two products of 8 bits within 16, at which CPUs
    without VNNI cut them off.
    """
    rng = np.random.default_rng(1)
    image = operations.parameter([-1, ROWS, FRAMES, 3], ov.Type.u8, name="image")
    taken = operations.convert(operations.transpose(image, operations.constant([0, 3, 1, 2])), "f32")
    if max(averaged) > 1:
        taken = operations.avg_pool(taken, averaged, [0, 0], [0, 0], averaged, True)
    if turned:
        last = ROWS // averaged[0] - 1
        rows = operations.constant(np.arange(last, -1, -1, dtype=np.int32))
        taken = operations.gather(taken, rows, operations.constant(np.int32(2)))
    if scaled:
        taken = operations.multiply(taken, operations.constant(np.full((1, 1, 1, 1), scaled[0], np.float32)))
        taken = operations.add(taken, operations.constant(np.full((1, 1, 1, 1), scaled[1], np.float32)))
    outputs: list[Any] = [taken] if watched else []
    for _ in range(convolutions):
        first, second = (rng.normal(size=size).astype(np.float32) for size in ((8, 3, 3, 2), (4, 8, 1, 1)))
        for kernel in (first, second):
            kernel[:, 1::2] *= every_other
        made = operations.convolution(
            taken, operations.constant(first), strides, 2 * [pads], 2 * [pads], 2 * [dilation]
        )
        outputs.append(
            operations.convolution(operations.relu(made), operations.constant(second), [1, 1], [0, 0], [0, 0], [1, 1])
        )
    return ov.Model([operations.reduce_mean(each, operations.constant([3]), False) for each in outputs], [image], "net")


def answers(model: ov.Model) -> list[NDArray[np.float32]]:
    answered = CORE.compile_model(model, "CPU", FLOAT32)([IMAGES])
    return [np.array(answered[number]) for number in range(len(model.outputs))]


def kinds(model: ov.Model) -> set[str]:
    return {node.get_type_name() for node in model.get_ordered_ops()}


CASES: list[dict[str, Any]] = [
    {},
    {"averaged": (1, 3)},
    {"averaged": (3, 2)},  # of which the last two rows and the last frame are left over
    {"averaged": (1, 3), "turned": False},
    {"averaged": (1, 3), "scaled": None},
    {"averaged": (1, 3), "scaled": (1 / 255, 0.0), "convolutions": 2},
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_answers_stay_the_same_and_the_image_is_read_as_it_came(case: dict[str, Any]) -> None:
    model = network(**case)
    before = answers(model)
    assert read_as_it_came(model)
    assert not kinds(model) & {"Transpose", "AvgPool"}
    for own, wanted in zip(answers(model), before, strict=True):
        np.testing.assert_allclose(own, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_8_bits_answer_as_near_to_float32_as_before(case: dict[str, Any]) -> None:
    model = network(**case, every_other=1 / 200)
    wanted = answers(model)
    in_8_bits = quantised(model, measure(model, IMAGES))
    before = answers(in_8_bits)
    assert read_as_it_came(in_8_bits)
    for own, rounded, exact in zip(answers(in_8_bits), before, wanted, strict=True):
        np.testing.assert_allclose(own, rounded, atol=0.03 * np.abs(exact).max())
        assert 0 < np.abs(own - exact).mean() < 1.05 * np.abs(rounded - exact).mean()


def test_8_bits_stay_so_where_the_image_is_read() -> None:
    model = network((1, 3))
    in_8_bits = quantised(model, measure(model, IMAGES))
    read_as_it_came(in_8_bits)
    runs = CORE.compile_model(in_8_bits, "CPU", FLOAT32).get_runtime_model()
    abouts = [node.get_rt_info() for node in runs.get_ordered_ops()]
    precisions = [
        about["runtimePrecision"].astype(str) for about in abouts if about["layerType"].astype(str) == "Convolution"
    ]
    assert precisions == ["u8", "u8"]


@pytest.mark.parametrize(
    "case",
    [
        {"pads": 1},
        {"dilation": 2},
        {"watched": True},
    ],
    ids=str,
)
def test_what_begins_otherwise_is_left_as_it_is(case: dict[str, Any]) -> None:
    model = network((1, 3), **case)
    before = [node.get_friendly_name() for node in model.get_ordered_ops()]
    assert not read_as_it_came(model)
    assert [node.get_friendly_name() for node in model.get_ordered_ops()] == before


def unusual(what: str) -> ov.Model:
    """A network that begins nearly as exported ones do."""
    image = operations.parameter([-1, ROWS, FRAMES, 3], ov.Type.u8)
    kind = "f16" if what == "float16" else "f32"
    taken = operations.convert(operations.transpose(image, operations.constant([0, 3, 1, 2])), kind)
    kernel: Any = operations.constant(np.ones((4, 3, 3, 2), np.float16 if what == "float16" else np.float32))
    if what == "overlapping":
        taken = operations.avg_pool(taken, [1, 2], [0, 0], [0, 0], [1, 3], True)
    if what == "a number for each channel":
        taken = operations.multiply(taken, operations.constant(np.arange(3, dtype=np.float32).reshape(1, 3, 1, 1)))
    if what == "rows counted from the end":
        rows = operations.constant(np.array([-1, -2, -3], np.int32))
        taken = operations.gather(taken, rows, operations.constant(np.int32(2)))
    if what == "frames in another order":
        frames = operations.constant(np.arange(FRAMES - 1, -1, -1, dtype=np.int32))
        taken = operations.gather(taken, frames, operations.constant(np.int32(3)))
    if what == "other steps":
        taken = operations.fake_quantize(taken, *(operations.constant(np.float32(end)) for end in (0, 9, 0, 9)), 16)
    if what == "a step for each channel that comes in":
        levels = operations.convert(operations.constant(np.ones((4, 3, 3, 2), np.int8)), "f32")
        kernel = operations.multiply(levels, operations.constant(np.ones((1, 3, 1, 1), np.float32)))
    convolved = operations.convolution(taken, kernel, [1, 1], [0, 0], [0, 0], [1, 1])
    return ov.Model([convolved], [image], "unusual")


@pytest.mark.parametrize(
    "what",
    [
        "overlapping",
        "a number for each channel",
        "rows counted from the end",
        "frames in another order",
        "other steps",
        "a step for each channel that comes in",
        "float16",
    ],
)
def test_what_is_done_otherwise_is_left_as_it_is(what: str) -> None:
    assert not read_as_it_came(unusual(what))


def test_what_is_no_image_is_left_as_it_is() -> None:
    lone = operations.parameter([-1, ROWS, FRAMES, 3], ov.Type.u8)
    of_any_rank = operations.parameter(ov.PartialShape.dynamic(), ov.Type.u8)
    of_floats = operations.parameter([-1, ROWS, FRAMES, 3], ov.Type.f32)
    nothing = operations.constant(np.zeros(3, np.float32))
    for network in (
        ov.Model([lone], [lone], "nothing is done"),
        ov.Model([operations.convert(of_any_rank, "f32")], [of_any_rank], "rank"),
        ov.Model([operations.convert(of_floats, "f32")], [of_floats], "floats"),
        ov.Model([nothing], [], "no image"),
    ):
        assert not read_as_it_came(network)


def test_the_image_may_be_parted_before_or_after_it_is_converted() -> None:
    image = operations.parameter([-1, ROWS, FRAMES, 3], ov.Type.u8)
    planes = operations.transpose(operations.convert(image, "f32"), operations.constant([0, 3, 1, 2]))
    kernel = operations.constant(np.random.default_rng(0).normal(size=(4, 3, 3, 2)).astype(np.float32))
    model = ov.Model([operations.convolution(planes, kernel, [1, 1], [0, 0], [0, 0], [1, 1])], [image], "converted")
    (before,) = answers(model)
    assert read_as_it_came(model)
    np.testing.assert_allclose(answers(model)[0], before, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize(
    "architecture",
    [
        Architecture(("mixed0",), bands=1),
        Architecture(("mixed0",), input_range=(-1.0, 1.0)),
        Architecture(("mixed0",), bands=1, shrink=(1, 3)),
        Architecture(("mixed0",), bands=1, shrink=(3, 2), input_range=(-1.0, 1.0), inceptions=2),
    ],
    ids=str,
)
def test_networks_that_earshot_exports_begin_so(architecture: Architecture, tmp_path: Path) -> None:
    blocks = blocks_in(keras.Model.from_config(deepcopy(cut_inception(("mixed0",)))))
    kernel = np.random.default_rng(0).normal(0, 0.01, (sum(architecture.widths), 3)).astype(np.float32)
    head = Head(((kernel, np.zeros(3, np.float32)),))
    network = build_network(architecture, blocks * architecture.inceptions, head)
    converted = convert(export_saved_model(network, ["a", "b", "c"], tmp_path / "1"), tmp_path / "cache")
    model = CORE.read_model(converted.network)
    in_8_bits = quantised(model, measure(model, converted.images))
    assert [read_as_it_came(model), read_as_it_came(in_8_bits)] == [True, True]
    (wanted,) = converted.answers.values()
    for one, off in ((model, 1e-4), (in_8_bits, 0.05)):
        (answered,) = CORE.compile_model(one, "CPU", FLOAT32)([converted.images]).values()
        np.testing.assert_allclose(answered, wanted, atol=off)
