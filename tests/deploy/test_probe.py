"""deploy/probe.py, the images' health check, against a real HTTP server."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from processors.settings import ProcessorSettings
from producers.settings import AgentSettings
from serving.settings import ServerSettings
from tests.deploy.compose import ROOT, instructions, words

if TYPE_CHECKING:
    from collections.abc import Iterator


class Answers(BaseHTTPRequestHandler):
    """Answers /200 with 200, /503 with 503, and /garbage with what is not HTTP."""

    def do_GET(self) -> None:
        if self.path == "/garbage":
            self.wfile.write(b"garbage\r\n\r\n")
            return
        self.send_response(int(self.path[1:]))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def probe(url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "deploy" / "probe.py", url], text=True, capture_output=True, check=False, timeout=60
    )


def test_given_a_success_it_says_nothing_and_succeeds(server: str) -> None:
    answer = probe(f"{server}/200")
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


@pytest.mark.parametrize("path", ["503", "404", "garbage"])
def test_given_anything_else_it_fails_and_says_why(server: str, path: str) -> None:
    answer = probe(f"{server}/{path}")
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"{server}/{path}: ")
    assert "Traceback" not in answer.stderr


def test_given_nobody_who_listens_it_fails() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert probe(f"http://127.0.0.1:{unused.getsockname()[1]}/").returncode == 1


def test_given_a_server_that_does_not_answer_it_fails_by_itself() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        answer = probe(f"http://127.0.0.1:{silent.getsockname()[1]}/")
    assert answer.returncode == 1
    assert "timed out" in answer.stderr


@pytest.mark.parametrize(
    ("target", "address"),
    [
        ("agent", f"127.0.0.1:{AgentSettings.read().metrics_port}/metrics"),
        ("processor", f"127.0.0.1:{ProcessorSettings.read().web_port}/ready"),
        ("serving", f"127.0.0.1:{ServerSettings.read().rest_api_port}/monitoring/prometheus/metrics"),
    ],
)
def test_each_image_probes_where_its_part_answers_by_default(target: str, address: str) -> None:
    (check,) = instructions("HEALTHCHECK", target)
    assert words(check.partition(" CMD ")[2]) == ["probe", f"http://{address}"]
