"""What the compose file tells images that are not the project's: as much of it as runs without a container engine."""

from __future__ import annotations

import json
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from local.jars import kafka_jars
from local.java import find_java
from tests.deploy.compose import health_check, services

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STATUS_PATH = "/v1/models/earshot"


def test_kafkas_set_up_takes_its_environment_and_formats_its_disk(tmp_path: Path) -> None:
    """The class that the image's entry point runs is in Kafka's own jar."""
    default, mounted, final = (tmp_path / name for name in ("default", "mounted", "final"))
    for folder in (default, mounted, final):
        folder.mkdir()
    for name in ("server.properties", "log4j2.yaml", "tools-log4j2.yaml"):
        (default / name).touch()
    folders = [f"--default-configs-dir={default}", f"--mounted-configs-dir={mounted}", f"--final-configs-dir={final}"]
    # The image has a cluster id of its own; the disk is another one here.
    image = {"CLUSTER_ID": "5L6g3nShT-eMCtK--X86sw", "KAFKA_LOG_DIRS": str(tmp_path / "data")}
    answer = subprocess.run(
        [
            find_java().path,
            "-Xmx256m",
            "-cp",
            f"{kafka_jars()}/*",
            "kafka.docker.KafkaDockerWrapper",
            "setup",
            *folders,
        ],
        env={name: str(value) for name, value in services()["kafka"]["environment"].items()} | image,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "data" / "meta.properties").exists()
    properties = dict(line.split("=", 1) for line in (final / "server.properties").read_text().split())
    assert properties["auto.create.topics.enable"] == "false"
    assert properties["listeners"] == "CONTROLLER://:29093,INTERNAL://:19092,EXTERNAL://:9092"
    assert "heap.opts" not in properties


def test_kafka_keeps_its_data_on_the_volume() -> None:
    kafka = services()["kafka"]
    assert kafka["volumes"] == [f"kafka-data:{kafka['environment']['KAFKA_LOG_DIRS']}"]


@contextmanager
def model_status(state: str) -> Iterator[int]:
    """The port of a server that answers as TensorFlow Serving's REST port does.

    TensorFlow Serving itself is published as an image and so cannot run here.
    """
    answer = json.dumps({"model_version_status": [{"version": "1", "state": state}]}, indent=1).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == STATUS_PATH else 404)
            self.end_headers()
            self.wfile.write(answer if self.path == STATUS_PATH else b"{}")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by http.server
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running.server_port
        running.shutdown()


def model_server_check(port: int) -> int:
    """Exit status of the model server's health check, asked on another port."""
    check = health_check(services()["model-server"])
    assert check is not None
    words = [word.replace("/127.0.0.1/8501", f"/127.0.0.1/{port}") for word in check]
    assert words != check
    return subprocess.run(words, capture_output=True, timeout=60, check=False).returncode


@pytest.mark.parametrize(("state", "healthy"), [("AVAILABLE", True), ("LOADING", False), ("UNLOADING", False)])
def test_the_model_server_is_healthy_once_its_model_is_available(state: str, healthy: bool) -> None:
    with model_status(state) as port:
        assert (model_server_check(port) == 0) is healthy


def test_the_model_server_is_not_healthy_where_nothing_listens() -> None:
    with model_status("AVAILABLE") as port:
        pass
    assert model_server_check(port) != 0
