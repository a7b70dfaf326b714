from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as operations

from serving.engines.int8 import Calibration, Int8, NotQuantised, Range, measure, quantised
from serving.engines.openvino_core import CORE
from serving.layout import INT8_FILE

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 12, 14, 3)).astype(np.uint8)
FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32"}
CALIBRATION = Calibration((Range((3, 12, 14), 0.0, 1.0),), ((0.5, -1e-05), (0.25,)), (0.125, 2.0))
INT8 = Int8(CALIBRATION, 8, 100, unseen=True, agreement=0.98, accuracy_float32=0.7, accuracy_int8=0.7)


def convolution(taken: Any, kernel: NDArray[np.float32]) -> Any:
    return operations.convolution(taken, operations.constant(kernel), [1, 1], [0, 0], [0, 0], [1, 1])


def branching_network(gain: float = 4.0) -> ov.Model:
    """As Inception is converted: two branches, one `gain` times as strong, are joined, pooled, turned and convolved."""
    rng = np.random.default_rng(1)
    image = operations.parameter([-1, 12, 14, 3], ov.Type.u8, name="image")
    planes = operations.transpose(operations.convert(image, "f32"), operations.constant([0, 3, 1, 2]))
    scaled = operations.multiply(planes, operations.constant(np.float32(1 / 255)))
    kernels = [rng.normal(size=(4, 3, 3, 3)).astype(np.float32) for _ in range(2)]
    branches = [
        operations.relu(convolution(scaled, kernels[0])),
        operations.relu(convolution(scaled, gain * kernels[1])),
    ]
    joined = operations.max_pool(
        operations.concat(branches, 1), [2, 2], [1, 1], [0, 0], [0, 0], [2, 2], "floor", "explicit", "i64", 0
    ).output(0)
    turned = operations.transpose(joined, operations.constant([0, 2, 3, 1]))
    turned_back = operations.transpose(turned, operations.constant([0, 3, 1, 2]))
    last = convolution(turned_back, rng.normal(size=(5, 8, 3, 3)).astype(np.float32))
    mean = operations.reduce_mean(last, operations.constant([2, 3]), keep_dims=False)
    return ov.Model([operations.softmax(mean, 1)], [image], "branching")


def scores(model: ov.Model) -> NDArray[np.float32]:
    return np.array(CORE.compile_model(model, "CPU", FLOAT32)([IMAGES])[0])


def quantising_steps(model: ov.Model) -> list[float]:
    """The upper ends of what is quantised, in the model's order."""
    nodes = [node for node in model.get_ordered_ops() if node.get_type_name() == "FakeQuantize"]
    return [float(node.input(2).get_source_output().get_node().data) for node in nodes]


def test_ranges_are_of_the_inputs_of_convolutions_traced_to_where_they_are_made() -> None:
    first, *branches = measure(branching_network(), IMAGES).ranges
    assert (first.shape, first.low) == ((3, 12, 14), 0.0)
    assert 0.9 < first.high <= 1.0
    assert [each.shape for each in branches] == [(4, 10, 12), (4, 10, 12)]
    assert branches[1].high > 2 * branches[0].high


def test_branches_that_are_joined_keep_to_one_range() -> None:
    model = branching_network()
    calibration = measure(model, IMAGES)
    ranges = calibration.ranges
    assert quantising_steps(quantised(model, calibration)) == pytest.approx([ranges[0].high, *2 * [ranges[2].high]])


def test_8_bits_answer_nearly_as_float32_and_leave_the_model_as_it_was() -> None:
    model = branching_network()
    before = scores(model)
    in_8_bits = scores(quantised(model, measure(model, IMAGES)))
    assert 0 < np.abs(in_8_bits - before).max() < 0.05
    np.testing.assert_array_equal(scores(model), before)


def test_one_loud_image_does_not_make_the_steps_coarse_for_all() -> None:
    quiet = (IMAGES // 16).astype(np.uint8)
    several = (quiet, [*(10 * [*quiet]), IMAGES[0]], IMAGES[:1])
    highest = [measure(branching_network(), images).ranges[0].high for images in several]
    assert highest[0] < highest[1] < 0.5 * highest[2]


def test_what_rounding_a_kernel_adds_in_the_mean_is_taken_off_again() -> None:
    def convolved(model: ov.Model) -> NDArray[np.float32]:
        """Mean of each channel of the last convolution."""
        (last,) = [node for node in model.get_ordered_ops() if node.get_type_name() == "ReduceMean"]
        compiled = CORE.compile_model(ov.Model([last], model.get_parameters()), "CPU", FLOAT32)
        return np.asarray(compiled([IMAGES])[0].mean(axis=0), dtype=np.float32)

    model = branching_network()
    calibration = measure(model, IMAGES)
    uncorrected = replace(calibration, corrections=tuple((0.0,) * len(own) for own in calibration.corrections))
    off, far_off = (np.abs(convolved(quantised(model, one)) - convolved(model)) for one in (calibration, uncorrected))
    assert off.mean() < 0.7 * far_off.mean()


@pytest.mark.parametrize("ranges", [(), (Range((3, 12, 15), 0.0, 1.0),) * 3])
def test_ranges_of_another_network_are_refused(ranges: tuple[Range, ...]) -> None:
    calibration = measure(branching_network(), IMAGES)
    with pytest.raises(NotQuantised, match="another network"):
        quantised(branching_network(), replace(calibration, ranges=ranges))


@pytest.mark.parametrize("corrections", [(), ((0.0,) * 7,) * 3])
def test_corrections_of_another_network_are_refused(corrections: tuple[tuple[float, ...], ...]) -> None:
    calibration = measure(branching_network(), IMAGES)
    with pytest.raises(NotQuantised, match="another network"):
        quantised(branching_network(), replace(calibration, corrections=corrections))


def test_a_calibration_of_the_same_network_with_other_weights_is_refused() -> None:
    with pytest.raises(NotQuantised, match="another network"):
        quantised(branching_network(gain=4.01), measure(branching_network(gain=4.0), IMAGES))


@pytest.mark.parametrize("before", [{"ranges": []}, {"calibration": {"ranges": [], "shifts": []}}])
def test_a_file_of_an_earlier_earshot_is_called_that(tmp_path: Path, before: dict[str, Any]) -> None:
    path = INT8.write(tmp_path)
    path.write_text(json.dumps({"agreement": 1.0, **before}))
    with pytest.raises(NotQuantised, match=r"made by an earlier Earshot.*earshot models quantize"):
        Int8.read(tmp_path)


def test_without_an_image_nothing_is_measured() -> None:
    with pytest.raises(NotQuantised, match="--data"):
        measure(branching_network(), [])


def test_a_network_without_convolutions_is_refused() -> None:
    image = operations.parameter([-1, 12, 14, 3], ov.Type.u8)
    model = ov.Model([operations.softmax(operations.convert(image, "f32"), 1)], [image], "none")
    with pytest.raises(NotQuantised, match="no convolution"):
        measure(model, IMAGES)


def test_the_file_says_what_was_written(tmp_path: Path) -> None:
    assert INT8.write(tmp_path) == tmp_path / INT8_FILE
    assert Int8.read(tmp_path) == INT8
    assert [path.name for path in (tmp_path / INT8_FILE).parent.iterdir()] == ["int8.json"]
