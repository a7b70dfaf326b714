"""What comes over HTTP: how much of it, for how long, how much at once, and that it is counted."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from serving.engines.tensorflow_engine import TensorFlowEngine
from serving.modelserver.rest_json import parse
from tests.serving.conftest import metrics, serve
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IMAGE = np.zeros((1, 128, 301, 3), np.uint8)


def post(server: Any, body: bytes) -> tuple[int, str]:
    url = server.metrics_url.replace("/monitoring/prometheus/metrics", "/v1/models/earshot:predict")
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=60) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["error"]


def test_a_body_over_the_bound_and_a_request_over_its_time_are_refused(base_path: Path) -> None:
    image = json.dumps({"instances": IMAGE.tolist()}).encode()
    with serve(base_path, max_message_mib=1, rest_api_timeout_in_ms=10_000) as server:
        server.wait_until_available(1)
        assert post(server, image)[0] == 200
        status, error = post(server, b" " * (1 << 20) + image)
        assert status == 413
        assert "--max-message-mib" in error
        assert metrics(server.metrics_url)[":tensorflow:serving:request_count", "earshot", "RESOURCE_EXHAUSTED"] == 1
    with serve(base_path, rest_api_timeout_in_ms=1) as server:
        server.wait_until_available(1)
        status, error = post(server, image)
        assert status == 504
        assert "not answered within" in error


def test_requests_over_http_are_counted_beside_those_over_grpc(base_path: Path) -> None:
    with serve(base_path, rest_api_timeout_in_ms=0) as server:  # as long as it takes
        server.wait_until_available(1)
        assert post(server, json.dumps({"instances": IMAGE.tolist()}).encode())[0] == 200
        assert post(server, b"{")[0] == 400
        values = metrics(server.metrics_url)
    assert values[":tensorflow:serving:request_latency_count", "predict", "REST", "earshot"] == 1
    assert values[":tensorflow:serving:request_count", "earshot", "OK"] == 1
    assert values[":tensorflow:serving:request_count", "earshot", "INVALID_ARGUMENT"] == 1
    limits = {labels[2] for name, *labels in values if name == ":tensorflow:serving:request_latency_bucket"}
    assert limits >= {"10", "18", "32.4", "+Inf"}
    warmed = [labels for name, *labels in values if name == ":tensorflow:serving:model_warmup_latency_count"]
    assert warmed == [[str(base_path / "1"), "OK"]]
    assert not [name for name, *_ in values if name.endswith("_created") or "batching_session" in name]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"no gzip!", 400, "JSON Parse error: The body is not compressed as gzip"),
        (gzip.compress(b" " * (16 << 20)), 413, "--max-message-mib"),
    ],
    ids=["no gzip", "a bomb"],
)
def test_a_connection_answers_after_a_compressed_body_that_is_refused(
    base_path: Path, body: bytes, status: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(base_path, max_message_mib=1) as server, capture_logs() as lines:
        server.wait_until_available(1)
        client = http.client.HTTPConnection(server.metrics_url.split("/")[2], timeout=30)
        for content, code, words in (
            (body, status, said),
            (gzip.compress(json.dumps({"instances": IMAGE.tolist()}).encode()), 200, "predictions"),
        ):
            client.request("POST", "/V1/models/earshot:predict", content, {"Content-Encoding": "gzip"})
            answer = client.getresponse()
            assert (answer.status, words in answer.read().decode()) == (code, True)
        client.close()
    assert not [line for line in lines if line["log_level"] == "error"]
    assert "aiohttp.server" not in {record.name for record in caplog.records}


@contextmanager
def begun_upload(server: Any, body: bytes, length: int) -> Iterator[socket.socket]:
    """A request of so many bytes that has come as far as `body`."""
    with socket.socket() as client:
        client.connect(("127.0.0.1", int(server.metrics_url.split(":")[2].split("/")[0])))
        client.sendall(b"POST /v1/models/earshot:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length)
        client.sendall(body)
        client.settimeout(60)
        yield client


@pytest.mark.parametrize("batching", [False, True])
def test_with_batching_its_queue_alone_bounds_what_is_asked_over_http(
    base_path: Path, batching: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, go = threading.Semaphore(0), threading.Event()

    def held_up(body: bytearray) -> Any:
        reads.release()
        go.wait(30)
        return parse(body)

    image = json.dumps({"instances": IMAGE.tolist()}).encode()
    monkeypatch.setattr("serving.modelserver.inference.os.cpu_count", lambda: 2)  # two are read at once
    monkeypatch.setattr("serving.modelserver.rest.parse", held_up)
    with (
        serve(base_path, enable_batching=batching, concurrency=1, queue=0) as server,
        ThreadPoolExecutor(2) as clients,
        ExitStack() as opened,
    ):
        server.wait_until_available(1)
        begun = opened.enter_context(begun_upload(server, image[:-1], len(image)))
        first = clients.submit(post, server, image)
        assert reads.acquire(timeout=30)
        second = clients.submit(post, server, image)
        if batching:
            assert reads.acquire(timeout=30)
        else:
            assert second.result(30)[0] == 503
            begun.sendall(image[-1:])
            assert b" 503 " in begun.recv(1000), "it had begun when there was a place, and now there is none"
            with begun_upload(server, b"", 100) as late:
                assert b" 503 " in late.recv(1000), "it waits for a body that nobody will read"
        go.set()
        assert first.result(30)[0] == 200
        assert second.result(30)[0] == (200 if batching else 503)


def test_who_sends_slowly_takes_nobodys_place_and_leaves_room_for_others(base_path: Path) -> None:
    image = json.dumps({"instances": IMAGE.tolist()}).encode()
    padded = b" " * (1_000_000 - len(image)) + image
    with serve(base_path, concurrency=1, queue=0, max_message_mib=1) as server:
        server.wait_until_available(1)
        with begun_upload(server, image[:-1], len(image)) as slow:

            def refused() -> bool:
                return "other requests are being received already" in post(server, padded)[1]

            wait_for(refused, 20, "what has come to be there")
            assert post(server, image)[0] == 200
            slow.sendall(image[-1:])
            assert b" 200 " in slow.recv(1000)
        assert post(server, padded)[0] == 200


def test_a_body_that_never_ends_is_given_up(base_path: Path) -> None:
    with serve(base_path, rest_api_timeout_in_ms=500) as server, begun_upload(server, b"{", 100) as client:
        assert b" 504 " in client.recv(1000)


def test_without_grace_a_stalled_upload_does_not_keep_the_server_from_stopping(base_path: Path) -> None:
    with ExitStack() as uploads:
        with serve(base_path, grace_s=0, rest_api_timeout_in_ms=0) as server:  # ends within a minute, or fails
            server.wait_until_available(1)
            client = uploads.enter_context(begun_upload(server, b"{", 100))
            wait_for(lambda: metrics(server.metrics_url), 20, "the request before it to be read")
        assert client.recv(1000) == b""


def test_what_is_in_flight_over_http_is_answered_when_the_server_stops(
    base_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, go, run = threading.Event(), threading.Event(), TensorFlowEngine.run

    def slowly(*arguments: Any) -> Any:
        runs.set()
        go.wait(30)
        return run(*arguments)

    with ThreadPoolExecutor(1) as client:
        with serve(base_path, grace_s=60) as server:
            server.wait_until_available(1)
            monkeypatch.setattr(TensorFlowEngine, "run", slowly)
            answer = client.submit(post, server, json.dumps({"instances": IMAGE.tolist()}).encode())
            assert runs.wait(30)
            threading.Timer(1.0, go.set).start()
        assert answer.result(60) == (200, "")


def test_more_requests_over_http_than_may_wait_are_refused(base_path: Path) -> None:
    image = json.dumps({"signature_name": "pcm", "instances": np.zeros((20, 48_000), int).tolist()}).encode()
    with serve(base_path, concurrency=1, queue=1) as server, ThreadPoolExecutor(12) as clients:
        server.wait_until_available(1)
        statuses = [status for status, _ in clients.map(lambda _: post(server, image), range(12))]
        assert set(statuses) == {200, 503}


def test_by_default_two_requests_for_each_core_run_at_once(base_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go, run = threading.Semaphore(0), threading.Event(), TensorFlowEngine.run

    def held_up(*arguments: Any) -> Any:
        begun.release()
        go.wait(60)
        return run(*arguments)

    monkeypatch.setattr("serving.modelserver.server.os.cpu_count", lambda: 2)
    with serve(base_path, concurrency=0) as server, ThreadPoolExecutor(6) as clients:
        server.wait_until_available(1)
        monkeypatch.setattr(TensorFlowEngine, "run", held_up)
        image = json.dumps({"instances": IMAGE.tolist()}).encode()
        answers = [clients.submit(post, server, image) for _ in range(6)]
        assert all(begun.acquire(timeout=30) for _ in range(4))
        assert not begun.acquire(timeout=0.5)  # the other two wait
        go.set()
        assert {answer.result(60)[0] for answer in answers} == {200}
