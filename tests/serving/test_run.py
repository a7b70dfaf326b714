"""`python -m serving` as a process: how it starts, refuses to start, and ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import prediction_service_pb2_grpc

from local.ports import free_ports
from tests.serving.conftest import metrics, predict_request
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STOPPED = 0
USAGE = 2


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "serving", *options]


def environment() -> dict[str, str]:
    """Without what this process has set for TensorFlow, so that the server's own choices are seen."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "EARSHOT_SERVING_"))}


@dataclass
class Server:
    process: subprocess.Popen[bytes]
    log: Path
    channel: grpc.Channel
    metrics_url: str

    def is_healthy(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            stub = health_pb2_grpc.HealthStub(self.channel)
            return bool(stub.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING)
        except grpc.RpcError:
            return False

    def stop(self, by: signal.Signals) -> int:
        self.process.send_signal(by)
        return self.process.wait(timeout=100)


@contextmanager
def server(base_path: Path, log: Path, *more: str) -> Iterator[Server]:
    port, rest_api_port = free_ports(2)
    ports = ("--port", port, "--rest-api-port", rest_api_port)
    options = ("--model-base-path", base_path, *ports, "--file_system_poll_wait_seconds", 0.2, *more)
    with (
        log.open("wb") as stderr,
        subprocess.Popen(command(*map(str, options)), stderr=stderr, env=environment()) as process,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        try:
            yield Server(process, log, channel, f"http://127.0.0.1:{rest_api_port}/monitoring/prometheus/metrics")
        finally:
            process.kill()


def refused(*options: str, cache: Path | None = None) -> subprocess.CompletedProcess[str]:
    own = {"EARSHOT_CACHE": str(cache)} if cache else {}
    return subprocess.run(
        command(*options), capture_output=True, text=True, timeout=120, check=False, env={**environment(), **own}
    )


def test_sigterm_answers_what_is_in_flight_and_ends_with_status_0(base_path: Path, tmp_path: Path) -> None:
    calls = 24
    request = predict_request(signature="pcm", pcm=np.zeros((32, 48_000), np.int16))
    with server(base_path, tmp_path / "log", "--concurrency", "1", "--queue", "64", "--grace-s", "90") as running:
        wait_for(running.is_healthy, 120, "the server to be healthy")
        stub = prediction_service_pb2_grpc.PredictionServiceStub(running.channel)
        futures = [stub.Predict.future(request, timeout=100) for _ in range(calls)]

        in_flight, answered = 0.0, 0.0
        while in_flight + answered < calls:
            values = metrics(running.metrics_url)
            in_flight = values.get(("earshot_serving_requests_in_flight", "Predict"), 0.0)
            answered = values.get((":tensorflow:serving:request_count", "earshot", "OK"), 0.0)
        assert in_flight > 0
        assert running.stop(signal.SIGTERM) == STOPPED
        assert [len(future.result().outputs["scores"].float_val) for future in futures] == [32 * 3] * calls
    said = (tmp_path / "log").read_text()
    assert "version available" in said
    assert "stopped" in said
    for noise in ("cuda", "CUDA", "oneDNN", "All log messages", "Traceback"):
        assert noise not in said


def test_a_missing_base_path_is_said_before_tensorflow_loads(tmp_path: Path) -> None:
    done = refused("--model-base-path", str(tmp_path / "nowhere"), "--port", "0", "--rest-api-port", "0")
    assert done.returncode == USAGE
    assert "is no folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_version_given_as_the_base_path_is_explained(base_path: Path) -> None:
    done = refused("--model-base-path", str(base_path / "1"), "--port", "0", "--rest-api-port", "0")
    assert done.returncode == USAGE
    assert f"give the folder that holds it, {base_path}" in done.stderr


@pytest.mark.parametrize("option", ["--port", "--rest-api-port"])
def test_a_taken_port_ends_the_command(base_path: Path, option: str) -> None:
    other = "--rest-api-port" if option == "--port" else "--port"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = refused("--model-base-path", str(base_path), option, port, other, "0")
    assert done.returncode == USAGE
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert f"choose another {option}" in done.stderr


def test_a_cache_that_cannot_hold_the_starter_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = refused("--port", "0", "--rest-api-port", "0", cache=tmp_path / "file")
    assert done.returncode == USAGE
    assert "set EARSHOT_CACHE to a folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_empty_base_path_waits_and_says_so_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    log = tmp_path / "log"
    with server(models, log) as running:
        wait_for(lambda: "waiting for a numeric folder" in log.read_text(), 120, "the server to say that it waits")
        assert running.stop(signal.SIGINT) == STOPPED


def test_help_lists_every_setting_without_importing_tensorflow() -> None:
    code = "import sys, serving.run, serving.settings; sys.exit(bool({'tensorflow', 'grpc'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    done = refused("--help")
    assert done.returncode == STOPPED
    assert "--model-base-path" in done.stdout


def test_a_precision_without_its_engine_is_explained(base_path: Path) -> None:
    done = refused("--model-base-path", str(base_path), "--precision", "int8")
    assert done.returncode == USAGE
    assert "add --engine openvino" in done.stderr


def test_a_second_signal_ends_at_once(base_path: Path, tmp_path: Path) -> None:
    request = predict_request(signature="pcm", pcm=np.zeros((32, 48_000), np.int16))
    with server(base_path, tmp_path / "log", "--concurrency", "1", "--queue", "64", "--grace-s", "90") as running:
        wait_for(running.is_healthy, 120, "the server to be healthy")
        stub = prediction_service_pb2_grpc.PredictionServiceStub(running.channel)
        futures = [stub.Predict.future(request, timeout=100) for _ in range(60)]
        futures[0].result()
        running.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert running.process.poll() is None
        assert running.stop(signal.SIGTERM) == 1


def test_sigterm_during_a_conversion_ends_it_and_the_server(
    base_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EARSHOT_CACHE", str(tmp_path / "cache"))
    log = tmp_path / "log"
    with server(base_path, log, "--engine", "openvino") as running:
        wait_for(lambda: list(tmp_path.glob("cache/openvino/.*")), 60, "the conversion to begin")
        assert running.stop(signal.SIGTERM) == STOPPED
    assert "version available" not in log.read_text()
    assert not list(tmp_path.glob("cache/openvino/*"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--batching-parameters-file", "batching"], "add --enable-batching"),
        (["--model_config_file=models", "--model_base_path=models"], "so --model-base-path is ignored"),
        (["--host", "no.such.host.invalid"], "--host no.such.host.invalid is no address"),
    ],
)
def test_settings_that_do_not_go_together_are_explained(options: list[str], words: str) -> None:
    done = refused(*options, "--port", "0", "--rest-api-port", "0")
    assert done.returncode == USAGE
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_version_as_a_base_path_in_the_models_file_is_explained(base_path: Path, tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    model = f'name: "birds" base_path: "{base_path / "1"}" model_platform: "tensorflow"'
    file.write_text(f"model_config_list {{ config {{ {model} }} }}")
    done = refused("--model_config_file", str(file), "--port", "0", "--rest-api-port", "0")
    assert done.returncode == USAGE
    assert "is a version itself" in done.stderr
