"""TensorFlow Serving's REST API: what it answers, and how it refuses."""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conformance.conftest import Server

HALF = "/v1/models/half"
MIXED = "/v1/models/mixed"


def b64(raw: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(raw).decode()}


def row(number: int, text: Any = "text") -> dict[str, Any]:
    return {"floats": [number, number + 0.1], "ints": number, "text": text}


# Predict


def test_rows_of_one_input_and_one_output(server: Server) -> None:
    assert server.http(f"{HALF}:predict", {"instances": [2, 4.5]}) == (200, {"predictions": [4.0, 5.25]})


def test_rows_of_a_column_may_be_plain_numbers(server: Server) -> None:
    body = {"signature_name": "column", "instances": [2.0, 3.0, 4.0]}
    assert server.http(f"{HALF}:predict", body) == (200, {"predictions": [4.0, 4.5, 5.0]})


def test_large_numbers_with_a_point_are_floats(server: Server) -> None:
    status, answer = server.http(f"{HALF}:predict", raw=b'{"instances": [33554434.0, 100000000000000000000]}')
    assert (status, answer["predictions"]) == (200, [16_777_220.0, 5e19])


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("YW\nJj", b"abc"),
        ("YWJj", b"abc"),
        ("YWJjZA", b"abcd"),
        ("YWJjZA==", b"abcd"),
        ("YWJ jZA==", b"abcd"),
        ("YWJjZA..", b"abcd"),
    ],
)
def test_base64_may_be_broken_into_lines_and_lack_its_padding(server: Server, text: str, read: bytes) -> None:
    status, answer = server.http(f"{MIXED}:predict", {"instances": [row(1, {"b64": text})]})
    assert status == 200
    assert answer["predictions"][0]["raw_bytes"] == b64(read)


@pytest.mark.parametrize("text", ["YWJj=", "YWJj====", "YWJjZA=", "YWJjZA===", "===="])
def test_base64_with_another_padding_is_refused(server: Server, text: str) -> None:
    status, answer = server.http(f"{MIXED}:predict", {"instances": [row(1, {"b64": text})]})
    assert status == 400
    assert "Unable to base64 decode" in answer["error"]


def test_rows_may_name_the_input(server: Server) -> None:
    assert server.http(f"{HALF}:predict", {"instances": [{"x": 2}]}) == (200, {"predictions": [4.0]})


def test_rows_with_several_outputs_are_objects(server: Server) -> None:
    answer = server.http(f"{HALF}:predict", {"signature_name": "two", "instances": [2, 4]})
    assert answer == (200, {"predictions": [{"y": 4.0, "doubled": 8.0}, {"y": 5.0, "doubled": 10.0}]})


def test_columns(server: Server) -> None:
    assert server.http(f"{HALF}:predict", {"inputs": [2, 4]}) == (200, {"outputs": [4.0, 5.0]})
    assert server.http(f"{HALF}:predict", {"inputs": {"x": 2}}) == (200, {"outputs": 4.0})
    answer = server.http(f"{HALF}:predict", {"signature_name": "two", "inputs": {"x": [[2], [4]]}})
    assert answer == (200, {"outputs": {"y": [[4.0], [5.0]], "doubled": [[8.0], [10.0]]}})


def test_types_and_bytes(server: Server) -> None:
    status, answer = server.http(f"{MIXED}:predict", {"instances": [row(1), row(2, b64(b"\xff\x00"))]})
    assert status == 200
    first, second = answer["predictions"]
    assert first["scaled"] == [2.0, 2.2]
    assert (first["next"], second["next"]) == (2, 3)
    assert (first["even"], second["even"]) == (False, True)
    assert first["shout"] == "TEXT"
    assert second["raw_bytes"] == b64(b"\xff\x00")


def test_small_and_large_whole_numbers_go_together(server: Server) -> None:
    for values in ([1, 2**64 - 1], [2**63 - 1, 2**63], [0], []):
        body = {"signature_name": "same", "inputs": values}
        assert server.http(f"{MIXED}:predict", body) == (200, {"outputs": values})
    wrong: list[list[float]] = [[1, 2**64], [1, -1, 2**64 - 1], [1.0, 2**64 - 1], [True, 2**64 - 1]]
    for each in wrong:
        assert server.http(f"{MIXED}:predict", {"signature_name": "same", "inputs": each})[0] == 400


@pytest.mark.parametrize(
    ("path", "version"), [("/versions/2", 2), ("/versions/3", 3), ("/labels/stable", 2), ("/labels/canary", 3), ("", 3)]
)
def test_a_version_is_asked_for_by_number_or_label(server: Server, path: str, version: int) -> None:
    assert server.http(f"{HALF}{path}:predict", {"instances": [2]}) == (200, {"predictions": [1.0 + version]})


@pytest.mark.parametrize(
    ("sent", "given"),
    [([16_777_217], [8_388_611.0]), ([1.5, 16_777_217], [3.75, 8_388_611.0]), ([1e39, -1e39], [math.inf, -math.inf])],
)
def test_numbers_that_a_float_has_not_are_rounded(server: Server, sent: list[float], given: list[float]) -> None:
    assert server.http(f"{HALF}:predict", {"instances": sent}) == (200, {"predictions": given})
    examples = [{"x": float(value)} for value in sent]
    answer = server.http(f"{HALF}:regress", {"signature_name": "regress", "examples": examples})
    assert answer == (200, {"results": given})


def test_numbers_that_are_none(server: Server) -> None:
    status, answer = server.http(f"{HALF}:predict", raw=b'{"instances": [NaN, Infinity, -Infinity]}')
    assert status == 200
    nan, most, least = answer["predictions"]
    assert math.isnan(nan)
    assert (most, least) == (math.inf, -math.inf)


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        (
            "/v1/models/nightingale:predict",
            {"instances": [1]},
            404,
            "Servable not found for request: Latest(nightingale",
        ),
        (f"{HALF}/versions/7:predict", {"instances": [1]}, 404, "Specific(half, 7)"),
        (f"{HALF}/labels/beta:predict", {"instances": [1]}, 400, "Unrecognized servable version label: beta"),
        (f"{HALF}:predict", {"signature_name": "no", "instances": [1]}, 400, 'signature name: "no" not found'),
        (f"{HALF}:predict", {"signature_name": 7, "instances": [1]}, 400, "'signature_name' key must be a string"),
        (f"{HALF}:predict", {}, 400, "Missing 'inputs' or 'instances' key"),
        (f"{HALF}:predict", {"instances": [1], "inputs": [1]}, 400, "only one of 'inputs' or 'instances'"),
        (f"{HALF}:predict", {"instances": 1}, 400, "to be an list/array"),
        (f"{HALF}:predict", {"instances": []}, 400, "No values in 'instances' array"),
        (f"{HALF}:predict", {"instances": ["a"]}, 400, "is not of expected type: float"),
        (
            f"{HALF}:predict",
            {"instances": [[1, 2], [3]]},
            400,
            "Failed to process element: 1 of 'instances' list. "
            "Error: INVALID_ARGUMENT: Expecting tensor size: 2 but got: 1",
        ),
        (f"{HALF}:predict?pretty", {"instances": [1]}, 400, "Malformed request"),
        (f"{HALF}:PREDICT", {"instances": [1]}, 400, "Malformed request"),
        (
            f"{HALF}:predict",
            {"instances": [{"y": 1}]},
            400,
            "Failed to process element: 0 key: y of 'instances' list. "
            "Error: INVALID_ARGUMENT: JSON object: does not have named input: y",
        ),
        (f"{HALF}:predict", {"instances": [True, 2]}, 400, "Type: True is not of expected type: float"),
        (
            f"{MIXED}:predict",
            {"signature_name": "inverted", "inputs": [True, 2]},
            400,
            "Type: True is not of expected type: uint8",
        ),
        (
            f"{MIXED}:predict",
            {"signature_name": "seven", "inputs": []},
            400,
            "Failed to get input map for signature: seven",
        ),
        (
            f"{HALF}:regress",
            {"signature_name": "regress", "examples": [{"x": 2**63}]},
            400,
            "Feature: x has uint64_t element. Only int64_t is supported.",
        ),
        (f"{HALF}:regress", {"signature_name": "regress", "examples": [{"x": 10**400}]}, 400, "Number too big"),
        (f"{HALF}:predict", {"instances": [1, {"x": 1}]}, 400, "object at item 1"),
        (f"{HALF}:predict", {"instances": 1}, 400, "JSON Value: 1 Expecting 'instances' to be an list/array"),
        (f"{MIXED}:predict", {"instances": [1]}, 400, "expecting list of objects as multiple input tensors required"),
        (f"{MIXED}:predict", {"instances": [{"ints": 1}]}, 400, "keys must be equal to: floats,ints,text"),
        (f"{MIXED}:predict", {"instances": [row(1), 2]}, 400, "at item 1"),
        (
            f"{MIXED}:predict",
            {"instances": [row(1), {**row(1), "more": 1}]},
            400,
            "Failed to process element: 1 key: more of 'instances' list. "
            "Error: INVALID_ARGUMENT: JSON object: does not have named input: more",
        ),
        (
            f"{MIXED}:predict",
            {"instances": [{**row(1), "ints": 1.5}]},
            400,
            "Failed to process element: 0 key: ints of 'instances' list. Error: INVALID_ARGUMENT: ",
        ),
        (f"{MIXED}:predict", {"instances": [{**row(1), "ints": 1.5}]}, 400, "not of expected type: int64"),
        (f"{MIXED}:predict", {"instances": [{**row(1), "text": 5}]}, 400, "not of expected type: string"),
        (f"{MIXED}:predict", {"instances": [row(1, {"b64": "???"})]}, 400, "Unable to base64 decode"),
        (f"{MIXED}:predict", {"instances": [row(1, "\ud800")]}, 400, ""),
        (f"{HALF}:predict", {"signature_name": "\ud800", "instances": [1]}, 400, ""),
        (f"{HALF}:regress", {"signature_name": "regress", "examples": [{"\ud800": 1.0}]}, 400, ""),
        (f"{MIXED}:predict", {"inputs": [1]}, 400, "expecting an object as multiple input tensors required"),
        (f"{MIXED}:predict", {"inputs": {"ints": [1]}}, 400, "Missing named input: floats in 'inputs' object"),
        (
            f"{MIXED}:predict",
            {"signature_name": "inverted", "inputs": [[1, 2], [3]]},
            400,
            "unexpected size: 1 at level",
        ),
    ],
)
def test_predict_refuses(server: Server, path: str, body: Any, status: int, words: str) -> None:
    got, answer = server.http(path, body)
    assert got == status
    assert set(answer) == {"error"}
    assert words in answer["error"]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "document is empty"),
        (b"{", "JSON Parse error"),
        (b"[1]", "Is not object"),
        *((b'{"instances": ' + depth * b"[" + b"1" + depth * b"]" + b"}", "") for depth in (100, 900, 962)),
    ],
)
def test_a_body_that_is_no_object_or_nested_too_deep_is_refused(server: Server, raw: bytes, words: str) -> None:
    got, answer = server.http(f"{HALF}:predict", raw=raw)
    assert got == 400
    assert words in answer["error"]


# Classify and regress


def test_classify(server: Server) -> None:
    answer = server.http(f"{HALF}:classify", {"signature_name": "classify", "examples": [{"x": 2.0}, {"x": [4.0]}]})
    assert answer == (200, {"results": [[["4.0", 4.0]], [["5.0", 5.0]]]})


def test_a_boolean_of_an_example_is_a_whole_number(server: Server) -> None:
    status, answer = server.http(f"{HALF}:regress", {"signature_name": "regress", "examples": [{"x": True}]})
    assert status == 400  # the model wants floats, and says so
    assert "Data types don't match" in answer["error"]


def test_regress_with_a_context(server: Server) -> None:
    body = {"signature_name": "regress", "context": {"x": 2.0}, "examples": [{}, {"x": 4.0}]}
    assert server.http(f"{HALF}:regress", body) == (200, {"results": [4.0, 5.0]})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"signature_name": "regress"}, "key 'examples' is expected and was not found"),
        ({"signature_name": "regress", "examples": 1}, "'examples' value to be an list/array"),
        ({"signature_name": "regress", "examples": []}, "value is an empty array"),
        ({"signature_name": "regress", "examples": [1]}, "Example must be JSON object but got JSON Number"),
        ({"signature_name": "regress", "examples": [{"x": None}]}, "Feature: x has element with unexpected JSON type"),
        (
            {"signature_name": "regress", "examples": [{"x": {"b64": 3}}]},
            "Feature: x has element with unexpected JSON type: Object",
        ),
        ({"signature_name": "regress", "examples": [{"x": [1.0, "a"]}]}, "Unexpected element type in feature: x"),
        ({"examples": [{"x": 1.0}]}, "No regression inputs found in SignatureDef"),
    ],
)
def test_regress_refuses(server: Server, body: Any, words: str) -> None:
    status, answer = server.http(f"{HALF}:regress", body)
    assert status == 400
    assert words in answer["error"]


# Status and metadata


def test_status_of_all_versions_and_of_one(server: Server) -> None:
    fine = {"error_code": "OK", "error_message": ""}
    two = {"version": "2", "state": "AVAILABLE", "status": fine}
    status, answer = server.http(HALF)
    assert status == 200
    assert answer == {"model_version_status": [{"version": "3", "state": "AVAILABLE", "status": fine}, two]}
    assert server.http(f"{HALF}/versions/2") == (200, {"model_version_status": [two]})


def test_metadata(server: Server) -> None:
    status, answer = server.http(f"{HALF}/versions/2/metadata")
    assert status == 200
    assert answer["model_spec"] == {"name": "half", "signature_name": "", "version": "2"}
    signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["x"]["dtype"] == "DT_FLOAT"


def test_metadata_in_capitals_are_the_status(server: Server) -> None:
    assert server.http(f"{HALF}/METADATA") == server.http(HALF)


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/v1/models/nightingale", 404, "Could not find any versions of model nightingale"),
        (f"{HALF}/versions/7", 404, "Could not find version 7 of model half"),
        ("/v1/models", 400, "Missing model name in request"),
        ("/v1/nothing", 400, "Malformed request: GET /v1/nothing"),
        (f"{HALF}:predict", 400, f"Malformed request: GET {HALF}:predict"),
        (f"{HALF}/versions/{2**63}", 400, "Failed to convert version"),
        (f"{HALF}/versions/{'9' * 5000}", 400, "Failed to convert version"),
    ],
)
def test_what_is_not_there_or_malformed(server: Server, path: str, status: int, words: str) -> None:
    got, answer = server.http(path)
    assert got == status
    assert words in answer["error"]


def test_an_unknown_method_is_malformed(server: Server) -> None:
    status, answer = server.http(f"{HALF}:sing", {"instances": [1]})
    assert status == 400
    assert answer["error"] == f"Malformed request: POST {HALF}:sing"
