"""Requests of the suite, and the codes that refuse them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.example import example_pb2
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    get_model_status_pb2,
    input_pb2,
    model_pb2,
    predict_pb2,
)

if TYPE_CHECKING:
    from tests.conformance.conftest import Server

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


def spec(
    name: str = "half", *, version: int | None = None, label: str = "", signature: str = ""
) -> model_pb2.ModelSpec:
    made = model_pb2.ModelSpec(name=name, signature_name=signature)
    if version is not None:
        made.version.value = version
    if label:
        made.version_label = label
    return made


def predict(server: Server, model: model_pb2.ModelSpec, *outputs: str, **inputs: Any) -> predict_pb2.PredictResponse:
    request = predict_pb2.PredictRequest(model_spec=model, output_filter=outputs)
    for name, value in inputs.items():
        proto = value if isinstance(value, tensor_pb2.TensorProto) else tf.make_tensor_proto(value)
        request.inputs[name].CopyFrom(proto)
    return server.predictions.Predict(request, timeout=30)


def status(server: Server, model: model_pb2.ModelSpec | None) -> get_model_status_pb2.GetModelStatusResponse:
    return server.model_service.GetModelStatus(get_model_status_pb2.GetModelStatusRequest(model_spec=model), timeout=30)


def floats(*values: float) -> np.ndarray[Any, Any]:
    return np.array(values, np.float32)


def example(**features: float) -> example_pb2.Example:
    made = example_pb2.Example()
    for name, value in features.items():
        made.features.feature[name].float_list.value.append(value)
    return made


def examples(*values: float) -> input_pb2.Input:
    return input_pb2.Input(example_list=input_pb2.ExampleList(examples=[example(x=value) for value in values]))
