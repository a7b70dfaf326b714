"""What clients are told: answers in rows over REST, and messages that are too long for gRPC."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import grpc
import numpy as np
import pytest

from serving.modelserver.errors import ServingError, invalid
from serving.modelserver.interceptor import MOST_DETAILS, _details
from serving.modelserver.rest_tensors import predict_answer


def test_rows_of_several_outputs_are_objects() -> None:
    outputs = {"a": np.array([1, 2]), "b": np.array([[0.5], [1.5]], np.float32)}
    assert predict_answer(outputs, rows=True) == {"predictions": [{"a": 1, "b": [0.5]}, {"a": 2, "b": [1.5]}]}


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ({"a": np.array(1.0)}, "Tensor name: a has no shape information "),
        ({"a": np.zeros((0, 3)), "b": np.zeros(3)}, "Tensor name: b has inconsistent batch size: 3 expecting: 0"),
        ({"a": np.zeros(2), "b": np.zeros(3)}, "Tensor name: b has inconsistent batch size: 3 expecting: 2"),
    ],
)
def test_outputs_that_have_no_rows_in_common_are_no_predictions(outputs: dict[str, Any], words: str) -> None:
    with pytest.raises(ServingError) as refused:
        predict_answer(outputs, rows=True)
    assert (refused.value.code, refused.value.message) == (grpc.StatusCode.INVALID_ARGUMENT, words)
    assert predict_answer(outputs, rows=False)


@pytest.mark.parametrize("names", ["a", "ab"])
def test_no_rows_are_an_answer_too(names: str) -> None:
    assert predict_answer({name: np.zeros((0, 3)) for name in names}, rows=True) == {"predictions": []}


def test_a_long_message_says_that_there_was_more() -> None:
    assert _details(invalid("x" * MOST_DETAILS)) == "x" * MOST_DETAILS
    assert _details(invalid("x" * (MOST_DETAILS + 1))) == "x" * MOST_DETAILS + "...TRUNCATED"


def test_a_message_in_any_script_fits_into_a_header_of_grpcs() -> None:
    """There each byte that is not ASCII takes three, and a header of 8 kB and more may get the client another code."""
    said = _details(invalid("☃" * MOST_DETAILS))
    assert said == "☃" * (MOST_DETAILS // 3) + "...TRUNCATED"
    assert len(quote(said)) < 4096
