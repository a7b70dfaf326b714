"""HTTP beneath TensorFlow Serving's REST API: headers, codings, where a body ends, and how an answer is laid out."""

from __future__ import annotations

import gzip
import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conformance.conftest import Server

HALF = "/v1/models/half"


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("UTF-8", b'{"instances": [2]}'),
        ("gzip", gzip.compress(b'{"instances": [2]}', mtime=0)),
        ("x-gzip", gzip.compress(b'{"instances": [2]}', mtime=0)),
        ("identity, gzip", gzip.compress(b'{"instances": [2]}', mtime=0)),
    ],
    ids=["a character set", "gzip", "x-gzip", "gzip at last"],
)
def test_a_body_is_decompressed_where_its_coding_has_gzip_in_it(server: Server, coding: str, body: bytes) -> None:
    request = urllib.request.Request(f"{server.rest}{HALF}:predict", body, {"Content-Encoding": coding})
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert json.load(answer) == {"predictions": [4.0]}


def test_headers_may_be_long(server: Server) -> None:
    request = urllib.request.Request(f"{server.rest}{HALF}", headers={"Authorization": f"Bearer {'x' * 60_000}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("raw", "status"), [(b'{"instances": [2]}\0', 200), (b'{"instances": [2]}\0{', 200), (b'{"instances": [2\0]}', 400)]
)
def test_a_body_ends_at_a_zero(server: Server, raw: bytes, status: int) -> None:
    assert server.http(f"{HALF}:predict", raw=raw)[0] == status


def test_about_a_model_there_is_a_line_for_each_value(server: Server) -> None:
    for path in (HALF, f"{HALF}/metadata"):
        with urllib.request.urlopen(f"{server.rest}{path}", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        values = [line for line in lines if '": "' in line]
        assert len(values) >= 4
        assert all(line.count('": "') == 1 for line in values)


def test_the_header_names_json_and_no_character_set(server: Server) -> None:
    for path in (HALF, "/v1/models/nightingale"):
        request = urllib.request.Request(f"{server.rest}{path}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                header = answer.headers["Content-Type"]
        except urllib.error.HTTPError as error:
            header = error.headers["Content-Type"]
        assert header == "application/json"
