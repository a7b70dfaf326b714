"""Classify and regress over REST: examples as JSON objects of features, and the results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from earshot.tfserving import messages
from serving.modelserver.errors import invalid
from serving.modelserver.rest_json import is_base64, kind_of, short_floats, shown, string, too_big, utf8

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tensorflow.core.example import example_pb2
    from tensorflow_serving.apis import classification_pb2, input_pb2, regression_pb2


def examples(request: Mapping[str, Any]) -> input_pb2.Input:
    """The examples of a classify or regress request; raises ServingError."""
    sent = messages.Input()
    if "context" in request:
        listed = sent.example_list_with_context
        _fill_example(request["context"], listed.context)
    else:
        listed = sent.example_list
    if "examples" not in request:
        raise invalid(
            f"JSON Value: {shown(request)} When method is classify, key 'examples' is expected and was not found"
        )
    if not isinstance(request["examples"], list):
        raise invalid(f"JSON Value: {shown(request)} Expecting 'examples' value to be an list/array")
    if not request["examples"]:
        raise invalid(f"JSON Value: {shown(request)} 'examples' value is an empty array")
    for value in request["examples"]:
        _fill_example(value, listed.examples.add())
    return sent


def classify_answer(result: classification_pb2.ClassificationResult) -> dict[str, Any]:
    """The answer to a classify request: label and score of each class, for each example."""
    scores = iter(short_floats(np.array([e.score for c in result.classifications for e in c.classes], np.float32)))
    return {"results": [[[e.label, float(next(scores))] for e in c.classes] for c in result.classifications]}


def regress_answer(result: regression_pb2.RegressionResult) -> dict[str, Any]:
    """The answer to a regress request: the value of each example."""
    return {"results": short_floats(np.array([each.value for each in result.regressions], np.float32)).tolist()}


def _fill_example(value: Any, example: example_pb2.Example) -> None:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {kind_of(value)}")
    for name, content in value.items():
        utf8(name)
        feature = example.features.feature[name]
        for each in content if isinstance(content, list) else [content]:
            _add_to_feature(each, name, feature)


def _add_to_feature(value: Any, name: str, feature: example_pb2.Feature) -> None:
    kind = _feature_kind(value)
    if kind is None:
        raise invalid(f"Feature: {name} has element with unexpected JSON type: {kind_of(value)}")
    there = feature.WhichOneof("kind")
    if there not in {None, kind}:
        raise invalid(f"Unexpected element type in feature: {name} expecting type: {there.removesuffix('_list')}")
    if kind == "bytes_list":
        value = string(value)
    elif kind == "int64_list":
        value = int(value)  # a boolean is 1 or 0
        if value >= 1 << 63:
            raise invalid(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
    else:
        try:
            with np.errstate(over="ignore"):  # what is too large is infinite
                value = np.float32(value)
        except OverflowError:  # a whole number of hundreds of digits
            raise too_big() from None
    getattr(feature, kind).value.append(value)


def _feature_kind(value: Any) -> str | None:
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 64:  # a boolean too
        return "int64_list"
    if isinstance(value, (float, int)):  # JSON has no whole numbers beyond 64 bits
        return "float_list"
    if isinstance(value, str) or is_base64(value):
        return "bytes_list"
    return None
