"""Predict over gRPC: what it answers, and how it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    model_pb2,
    predict_pb2,
)

from tests.conformance.conftest import refused
from tests.conformance.requests import FAILED_PRECONDITION, INVALID, NOT_FOUND, example, floats, predict, spec

if TYPE_CHECKING:
    import grpc

    from tests.conformance.conftest import Server


def test_predict_answers_from_the_newest_version_in_typed_fields_and_says_so(server: Server) -> None:
    answer = predict(server, spec(), x=floats(2, 4))
    assert list(answer.outputs) == ["y"]
    assert list(answer.outputs["y"].float_val) == [4.0, 5.0]
    assert not answer.outputs["y"].tensor_content
    assert answer.outputs["y"].dtype == types_pb2.DT_FLOAT
    assert [dim.size for dim in answer.outputs["y"].tensor_shape.dim] == [2]
    assert answer.model_spec == spec(version=3, signature="serving_default")


def test_predict_reads_tensor_content_and_typed_fields_alike(server: Server) -> None:
    typed = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[2.0, 4.0])
    typed.tensor_shape.dim.add(size=2)
    packed = tf.make_tensor_proto(floats(2, 4))
    assert packed.tensor_content
    assert predict(server, spec(), x=typed).outputs == predict(server, spec(), x=packed).outputs


def test_one_typed_value_stands_for_a_whole_tensor(server: Server) -> None:
    typed = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[2.0])
    typed.tensor_shape.dim.add(size=3)
    assert list(predict(server, spec(), x=typed).outputs["y"].float_val) == [4.0, 4.0, 4.0]


@pytest.mark.parametrize(
    ("model", "version"), [({"version": 2}, 2), ({"version": 3}, 3), ({"label": "stable"}, 2), ({"label": "canary"}, 3)]
)
def test_a_version_is_asked_for_by_number_or_label(server: Server, model: dict[str, Any], version: int) -> None:
    answer = predict(server, spec(**model), x=floats(2))
    assert list(answer.outputs["y"].float_val) == [1.0 + version]
    assert answer.model_spec.version.value == version


def test_all_outputs_or_those_of_the_filter_are_answered(server: Server) -> None:
    model = spec(signature="two")
    assert set(predict(server, model, x=floats(2)).outputs) == {"y", "doubled"}
    assert set(predict(server, model, "doubled", x=floats(2)).outputs) == {"doubled"}
    assert list(predict(server, model, "doubled", x=floats(2)).outputs["doubled"].float_val) == [8.0]


def test_several_inputs_of_several_types(server: Server) -> None:
    answer = predict(
        server,
        spec("mixed"),
        floats=np.array([[1, 2], [3, 4]], np.float32),
        ints=np.array([1, 2], np.int64),
        text=np.array([b"one", b"two\x00"], object),
    )
    assert tf.make_ndarray(answer.outputs["scaled"]).tolist() == [[2.0, 4.0], [6.0, 8.0]]
    assert list(answer.outputs["next"].int64_val) == [2, 3]
    assert list(answer.outputs["shout"].string_val) == [b"ONE", b"TWO\x00"]
    assert list(answer.outputs["even"].bool_val) == [False, True]


def test_small_integers_and_scalars(server: Server) -> None:
    inverted = predict(server, spec("mixed", signature="inverted"), values=np.array([0, 200], np.uint8))
    assert list(inverted.outputs["inverted"].int_val) == [255, 55]
    root = predict(server, spec("mixed", signature="root"), value=np.float32(9)).outputs["root"]
    assert list(root.float_val) == [3.0]
    assert not root.tensor_shape.dim


def test_predict_calls_classify_and_regress_signatures_too(server: Server) -> None:
    serialized = np.array([example(x=2).SerializeToString()], object)
    answer = predict(server, spec(signature="classify"), inputs=serialized)
    assert list(answer.outputs["scores"].float_val) == [4.0]
    assert list(answer.outputs["classes"].string_val) == [b"4.0"]


@pytest.mark.parametrize(
    ("model", "inputs", "outputs", "code", "words"),
    [
        (spec(""), {"x": floats(1)}, (), INVALID, "ModelSpec has no name specified."),
        (spec("nightingale"), {"x": floats(1)}, (), NOT_FOUND, "Servable not found for request: Latest(nightingale)"),
        (spec(version=7), {"x": floats(1)}, (), NOT_FOUND, "Servable not found for request: Specific(half, 7)"),
        (spec(label="beta"), {"x": floats(1)}, (), INVALID, "Unrecognized servable version label: beta"),
        (spec(signature="no"), {"x": floats(1)}, (), FAILED_PRECONDITION, 'Serving signature key "no" not found'),
        (spec(), {}, (), INVALID, "Sent extra: {}. Missing but required: {x}"),
        (spec(), {"x": floats(1), "z": floats(1)}, (), INVALID, "Sent extra: {z}. Missing but required: {}"),
        (spec(), {"z": floats(1)}, (), INVALID, "input tensor alias not found in signature: z. Inputs expected to be"),
        (spec(), {"x": floats(1)}, ("w",), INVALID, "output tensor alias not found in signature: w"),
        (spec(), {"x": floats(1)}, ("y", "y"), INVALID, "duplicate output tensor alias: y"),
        (spec(), {"x": tensor_pb2.TensorProto(dtype=99)}, (), INVALID, ""),
        (spec(), {"x": np.array([1.0])}, (), INVALID, ""),
        (spec("mixed", signature="inverted"), {"values": np.zeros((1, 2), np.uint8)}, (), INVALID, ""),
    ],
)
def test_predict_refuses(
    server: Server,
    model: model_pb2.ModelSpec,
    inputs: dict[str, Any],
    outputs: tuple[str, ...],
    code: grpc.StatusCode,
    words: str,
) -> None:
    got, details = refused(lambda: predict(server, model, *outputs, **inputs))
    assert got is code
    assert words in details


@pytest.mark.parametrize("size", [1, 100_000], ids=["small", "large"])
def test_a_request_that_says_nothing_of_a_model_is_refused(server: Server, size: int) -> None:
    request = predict_pb2.PredictRequest()
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.zeros(size, np.float32)))
    code, details = refused(lambda: server.predictions.Predict(request, timeout=30))
    assert (code, details) == (INVALID, "Missing ModelSpec")


def shaped(*sizes: int, **values: Any) -> tensor_pb2.TensorProto:
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, **values)
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize("tensor", [shaped(0, 1 << 62), shaped(*[1] * 300, float_val=[1.0]), shaped(1 << 40, 1 << 40)])
def test_shapes_that_no_tensor_has_are_invalid(server: Server, tensor: tensor_pb2.TensorProto) -> None:
    assert refused(lambda: predict(server, spec(), x=tensor))[0] is INVALID


def test_a_long_name_is_not_found_like_any_other(server: Server) -> None:
    code, details = refused(lambda: predict(server, spec("x" * 20_000), x=floats(1)))
    assert code is NOT_FOUND
    assert details.startswith("Servable not found for request: Latest(xxx")


def test_a_truncated_tensor_is_a_parsing_error(server: Server) -> None:
    broken = tf.make_tensor_proto(floats(1, 2))
    broken.tensor_content = broken.tensor_content[:5]
    code, details = refused(lambda: predict(server, spec(), x=broken))
    assert code is INVALID
    assert "tensor parsing error: x" in details


@pytest.mark.parametrize("x", [floats(2, 4), np.float32(2), np.array([[2, 4], [6, 8]], np.float32)])
def test_shapes_that_the_graph_can_do_with_are_answered_whatever_the_signature_says(server: Server, x: Any) -> None:
    answer = predict(server, spec(signature="column"), x=x).outputs["y"]
    np.testing.assert_array_equal(tf.make_ndarray(answer), np.asarray(x) / 2 + 3)


def test_a_shape_that_the_graph_cannot_do_with_is_invalid(server: Server) -> None:
    wrong = np.zeros((2, 3, 1), np.float32)
    sent = {"floats": wrong, "ints": np.zeros(2, np.int64), "text": np.array([b"", b""])}
    code, details = refused(lambda: predict(server, spec("mixed"), **sent))
    assert code is INVALID
    assert "floats" in details or "shape" in details.lower()


def test_no_values_are_zeros_and_more_values_than_the_shape_needs_are_left_out(server: Server) -> None:
    assert list(predict(server, spec(), x=shaped(2)).outputs["y"].float_val) == [3.0, 3.0]
    sent = shaped(2, float_val=[2.0, 4.0, 6.0])
    assert list(predict(server, spec(), x=sent).outputs["y"].float_val) == [4.0, 5.0]


def test_predict_without_a_spec_is_invalid(server: Server) -> None:
    code, _ = refused(lambda: server.predictions.Predict(predict_pb2.PredictRequest(), timeout=30))
    assert code is INVALID


def test_not_a_number_goes_through(server: Server) -> None:
    assert np.isnan(predict(server, spec(), x=floats(np.nan)).outputs["y"].float_val[0])
