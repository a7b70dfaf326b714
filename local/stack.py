"""Broker, model server and worker on this machine, started and stopped as one: the pipeline but for its devices."""

from __future__ import annotations

import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from earshot.admin import create_topics
from local.broker import Broker
from local.modelserver import READY_TIMEOUT_S, model_server, without_settings
from local.ports import HOST, free_ports
from local.processes import Child
from serving.layout import version_folders

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

_POLL_S = 0.1


class StackError(RuntimeError):
    """A part did not start or died; the message holds the last lines that it logged."""


class Stack:
    """Broker, model server and worker on free loopback ports; a context manager that leaves no process behind."""

    def __init__(
        self,
        work_dir: Path,
        *,
        model: Path | None = None,
        top_k: int = 5,
        announce: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Prepare a stack that keeps logs and data in `work_dir`.

        `model` is a model base path, the starter model where None; `announce` hears what is being waited for.
        """
        self._work_dir = work_dir
        self._model = model
        self._top_k = top_k
        self._announce = announce
        self._exit = ExitStack()
        self._children: list[Child] = []
        self.bootstrap_servers = ""

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self._exit = undo
            self._start()
            self._exit = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def check(self) -> None:
        """Raise StackError where a part has died."""
        for child in self._children:
            if child.poll() is not None:
                last = "\n".join(child.tail())
                raise StackError(f"the {child.name} ended with status {child.poll()}; its last lines:\n{last}")

    def _start(self) -> None:
        if self._model and self._model.is_dir() and not version_folders(self._model):
            raise StackError(
                f"{self._model} holds no version of a model, a folder whose name is a number; --model names the folder "
                "that holds such folders"
            )
        # The model server takes longest, so it starts first and loads while the broker does.
        server, address = model_server(self._model, self._work_dir / "model-server.log")
        self._run(server)
        self._announce("starting Kafka, and the model server beside it")
        broker = self._exit.enter_context(Broker(self._work_dir / "kafka"))
        self.bootstrap_servers = broker.bootstrap_servers
        create_topics(self.bootstrap_servers)
        work = ["processors", "--bootstrap-servers", self.bootstrap_servers, "--model-server", address]
        (web_port,) = free_ports(1)
        work += ["--web-host", HOST, "--web-port", str(web_port), "--top-k", str(self._top_k)]
        log = self._work_dir / "worker.log"
        self._run(Child("worker", [sys.executable, "-m", *work], env=without_settings(), log_path=log))
        self._announce("waiting for the model and the worker")
        self._wait(f"http://{HOST}:{web_port}/ready")

    def _run(self, child: Child) -> None:
        child.start()
        self._exit.callback(child.stop)
        self._children.append(child)

    def _wait(self, url: str) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            self.check()
            try:
                with urllib.request.urlopen(url, timeout=5.0):  # noqa: S310 - an address on this machine
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(_POLL_S)
        last = "\n".join(f"the {child.name}'s last lines:\n" + "\n".join(child.tail(5)) for child in self._children)
        raise StackError(f"the worker was not ready after {READY_TIMEOUT_S:.0f} s; {last}")
