"""What the REST API reads as tensors, where no model of the conformance tests asks for it."""

from __future__ import annotations

from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from serving.modelserver.rest_tensors import predict_inputs


def test_an_input_may_be_called_as_base64_is() -> None:
    signature = meta_graph_pb2.SignatureDef()
    signature.inputs["b64"].dtype = types_pb2.DT_FLOAT
    rows = predict_inputs({"instances": [{"b64": [1.0, 2.0]}, {"b64": [3.0, 4.0]}]}, signature, 1000)
    assert rows["b64"].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    columns = predict_inputs({"inputs": {"b64": [1.0, 2.0]}}, signature, 1000)
    assert columns["b64"].tolist() == [1.0, 2.0]
