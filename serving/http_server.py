"""The HTTP port: Prometheus metrics, on the path where TensorFlow Serving has them."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import TYPE_CHECKING

from prometheus_client.exposition import choose_encoder

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

METRICS_PATH = "/monitoring/prometheus/metrics"


class _Server(ThreadingTCPServer):
    allow_reuse_address = True  # a restarted server takes the port over at once
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that hangs up has what it wanted."""


class MetricsServer:
    """Answers GET on METRICS_PATH, in threads of its own; raises OSError where the port is taken."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = 10  # a client that says nothing does not keep its thread

            def do_GET(self) -> None:
                if self.path.partition("?")[0] != METRICS_PATH:
                    self._answer(404, "application/json", b'{"error": "metrics are at %s"}' % METRICS_PATH.encode())
                    return
                encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                self._answer(200, content_type, encode(registry))

            def _answer(self, status: int, content_type: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by http.server
                """Say nothing: scrapes come every few seconds."""

        self._server = _Server((host, port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and free the port."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
