"""Requests changed at random, over gRPC and HTTP: an error or an answer each, and the server goes on."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    input_pb2,
    model_management_pb2,
    predict_pb2,
)

from tests.conformance.conftest import refused
from tests.conformance.conftest import server as conformance_server
from tests.conformance.requests import examples, floats, predict, spec

if TYPE_CHECKING:
    from tests.conformance.conftest import Server

server = conformance_server

ROUNDS = 120
BAD = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNKNOWN}
"""What a client gets where the server died, hangs, or has no words for what happened."""


def right_requests() -> dict[str, Any]:
    """A right request of each method, by its path."""
    predicted = predict_pb2.PredictRequest(model_spec=spec(version=3), output_filter=["y"])
    predicted.inputs["x"].CopyFrom(tf.make_tensor_proto(floats(*range(16))))
    multi = inference_pb2.MultiInferenceRequest(input=examples(1, 2))
    multi.tasks.add(model_spec=spec(signature="regress"), method_name="tensorflow/serving/regress")
    classified = classification_pb2.ClassificationRequest(model_spec=spec(signature="classify"), input=examples(1, 2))
    return {
        "PredictionService/Predict": predicted,
        "PredictionService/Classify": classified,
        "PredictionService/Regress": classified,
        "PredictionService/MultiInference": multi,
        "PredictionService/GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=spec(), metadata_field=["signature_def"]
        ),
        "ModelService/GetModelStatus": get_model_status_pb2.GetModelStatusRequest(model_spec=spec(label="stable")),
    }


def mutated(right: bytes, rng: np.random.Generator) -> bytes:
    """`right` with some bytes changed, cut out, repeated or cut off."""
    changed = bytearray(right)
    for _ in range(int(rng.integers(1, 3))):
        at = int(rng.integers(len(changed) + 1))
        kind = rng.choice([0, 0, 0, 0, 1, 2, 3])
        if kind == 0 and changed:
            changed[at % len(changed)] = int(rng.integers(256))
        elif kind == 1:
            del changed[at : at + int(rng.integers(1, 9))]
        elif kind == 2:
            changed[at:at] = changed[max(0, at - 8) : at] or b"\x0a\x05"
        else:
            changed = changed[:at] if rng.random() < 0.3 else changed + bytes(rng.integers(0, 256, 4).tolist())
    return bytes(changed)


@pytest.mark.parametrize("method", right_requests())
def test_mutated_messages(server: Server, method: str) -> None:
    raw: Any = server.channel.unary_unary(f"/tensorflow.serving.{method}")
    right = right_requests()[method].SerializeToString()
    rng = np.random.default_rng(len(method))
    codes = set()
    for _ in range(ROUNDS):
        try:
            raw(mutated(right, rng), timeout=20)
            codes.add(grpc.StatusCode.OK)
        except grpc.RpcError as error:
            codes.add(error.code())
    assert len(codes) > 1
    assert not codes & BAD
    assert list(predict(server, spec(), x=floats(2)).outputs["y"].float_val) == [4.0]


def test_mutated_configurations_change_nothing(server: Server) -> None:
    request = model_management_pb2.ReloadConfigRequest()
    config = request.config.model_config_list.config
    config.add(name="half", base_path=f"{server.models}/nowhere", model_platform="tensorflow")
    raw: Any = server.channel.unary_unary("/tensorflow.serving.ModelService/HandleReloadConfigRequest")
    rng = np.random.default_rng(0)
    for _ in range(ROUNDS):
        changed = mutated(request.SerializeToString(), rng)
        if changed == b"\n\x00":
            continue  # an empty list is right, and would offer nothing
        code, _ = refused(lambda: raw(changed, timeout=20))  # noqa: B023
        assert code not in BAD
    assert list(predict(server, spec(), x=floats(2)).outputs["y"].float_val) == [4.0]


def random_tensor(rng: np.random.Generator) -> tensor_pb2.TensorProto:
    """A tensor of any type and shape, whose values seldom fit."""
    proto = tensor_pb2.TensorProto(dtype=int(rng.choice(list(types_pb2.DataType.values()))))
    for _ in range(int(rng.integers(0, 5))):
        proto.tensor_shape.dim.add(size=int(rng.choice([-1, 0, 1, 3, 1 << 20, 1 << 40, 1 << 62])))
    proto.tensor_shape.unknown_rank = bool(rng.random() < 0.1)
    proto.tensor_content = rng.bytes(int(rng.integers(0, 64))) if rng.random() < 0.5 else b""
    proto.float_val.extend(rng.choice([0.0, np.nan, np.inf, -1e38], int(rng.integers(0, 4))).tolist())
    proto.int_val.extend(rng.integers(-(2**31), 2**31, int(rng.integers(0, 4))).tolist())
    proto.string_val.extend([rng.bytes(5)] * int(rng.integers(0, 3)))
    return proto


@pytest.mark.parametrize(
    ("model", "names"),
    [(spec(), ["x"]), (spec("mixed"), ["floats", "ints", "text"]), (spec(signature="regress"), ["inputs"])],
)
def test_random_tensors(server: Server, model: Any, names: list[str]) -> None:
    rng = np.random.default_rng(len(names))
    for _ in range(ROUNDS):
        code = grpc.StatusCode.OK
        try:
            predict(server, model, **{name: random_tensor(rng) for name in names})
        except grpc.RpcError as error:
            code = error.code()
        assert code not in BAD
    assert list(predict(server, spec(), x=floats(2)).outputs["y"].float_val) == [4.0]


def test_serialized_examples_that_are_none(server: Server) -> None:
    for raw in (b"", b"\xff" * 50, b"\x0a\xff\xff\xff\xff\x0f"):
        with pytest.raises(grpc.RpcError) as caught:
            predict(server, spec(signature="regress"), inputs=np.array([raw], object))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def http(server: Server, path: str, body: bytes) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{server.rest}{path}", body), timeout=20) as answer:
            json.load(answer)
            return int(answer.status)
    except urllib.error.HTTPError as error:
        json.loads(error.read())["error"]
        return error.code


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("/v1/models/half:predict", b'{"signature_name": "two", "instances": [{"x": [1, 2.5e3]}, {"x": [3, -4]}]}'),
        ("/v1/models/mixed:predict", b'{"inputs": {"floats": [[1, 2]], "ints": [3], "text": [{"b64": "aGk="}]}}'),
        (
            "/v1/models/half:regress",
            b'{"signature_name": "regress", "context": {"x": 1.5}, "examples": [{"x": [2.5]}]}',
        ),
    ],
)
def test_mutated_json(server: Server, path: str, right: bytes) -> None:
    assert http(server, path, right) == 200
    rng = np.random.default_rng(len(right))
    statuses = {http(server, path, mutated(right, rng)) for _ in range(ROUNDS)}
    assert 400 in statuses
    assert statuses <= {200, 400, 404}


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"signature_name": "classify", "instances": ' + b"[" * 70 + b'"a"' + b"]" * 70 + b"}",
        b'{"instances": [1e999]}',
        b'{"instances": [' + b"9" * 5_000 + b"]}",
        b'{"instances": [' + b"1" * 400 + b"]}",
        b'{"instances": [null]}',
        b'{"instances": [[]]}',
        b'{"instances": "\xff"}',
        b'{"instances": [{}]}',
        b'{"inputs": {}}',
        b'{"inputs": null}',
    ],
)
def test_json_that_is_odd(server: Server, body: bytes) -> None:
    assert http(server, "/v1/models/half:predict", body) in {200, 400}
    assert http(server, "/v1/models/half:predict", b'{"instances": [2]}') == 200


def test_input_kinds_that_are_unknown(server: Server) -> None:
    request = classification_pb2.ClassificationRequest(model_spec=spec(signature="classify"))
    request.input.CopyFrom(input_pb2.Input.FromString(b"\x1a\x00"))  # a field that this Input has not
    with pytest.raises(grpc.RpcError) as caught:
        server.predictions.Classify(request, timeout=20)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
