"""The commands of `earshot local`, as processes of a user's, one after the other."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from kafka import KafkaProducer

from earshot.topics import LABELS
from local.storage import broker_pid
from tests.local.test_processes import ends, runs
from tests.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration


class User:
    """Someone whose brokers keep their data in a folder of the test's."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.data = state / "kafka"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    def starts(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "local", *words],
            cwd=ROOT,
            env={**os.environ, "EARSHOT_STATE": str(self.state), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def runs(self, *words: str, **environment: str) -> tuple[int, str, str]:
        """Exit status, stdout and stderr."""
        return result(self.starts(*words, **environment))

    def status(self) -> tuple[int, dict[str, str]]:
        """Exit status, and what is said of each thing."""
        code, out, _ = self.runs("status")
        lines = [line.removeprefix("topic").strip() for line in out.splitlines()]
        return code, dict(line.split(maxsplit=1) for line in lines)


def result(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    user = User(tmp_path / "state")
    yield user
    if user.data.exists() and (pid := broker_pid(user.data)) is not None:
        os.kill(pid, signal.SIGKILL)


def test_before_anything_was_started_status_says_stopped_and_down_is_harmless(user: User) -> None:
    assert user.status() == (3, {"state": "stopped", "data": str(user.data)})
    assert user.runs("down") == (0, f"No broker runs on {user.data}\n", "")
    assert not user.state.exists()


def test_a_broker_is_started_once_survives_a_kill_with_its_data_and_is_stopped(user: User) -> None:
    address = f"127.0.0.1:{user.port}"
    both = [user.starts("up", "--port", str(user.port)) for _ in range(2)]  # at the same time
    answers = [result(process) for process in both]
    assert [answer[:2] for answer in answers] == [(0, f"{address}\n")] * 2
    pid = broker_pid(user.data)
    assert pid is not None
    assert sorted(err.partition(" as ")[0] for _, _, err in answers) == ["Kafka ran already", "Kafka runs"]
    assert all(f"as process {pid}, its data and its log in {user.data}" in err for _, _, err in answers)

    code, out, err = user.runs("up", "--port", "1")  # one that runs stays, whatever its port
    assert (code, out) == (0, f"{address}\n")
    assert "ran already" in err

    producer = KafkaProducer(bootstrap_servers=address)
    producer.send(LABELS, b"kept").get(30)
    producer.close()
    running = {"state": "running", "pid": str(pid), "address": address, "data": str(user.data)}
    topics = {"segments:": "end offset 0", "labels:": "end offset 1", "segments.dlq:": "end offset 0"}
    assert user.status() == (0, running | topics)

    os.kill(pid, signal.SIGKILL)
    assert ends(pid)
    assert user.status()[0] == 3
    assert user.runs("down")[1] == f"No broker runs on {user.data}\n"

    assert user.runs("up", "--port", str(user.port))[:2] == (0, f"{address}\n")
    again = broker_pid(user.data)
    assert again not in {None, pid}
    assert user.status() == (0, running | topics | {"pid": str(again)})

    assert user.runs("down") == (0, f"Stopped process {again}; its data stays in {user.data}\n", "")
    assert again is not None
    assert not runs(again)
    assert user.status()[0] == 3


def test_what_a_user_can_mend_is_one_message_with_status_2(user: User) -> None:
    with socket.create_server(("127.0.0.1", user.port)):
        code, out, err = user.runs("up", "--port", str(user.port))
    assert (code, out) == (2, "")
    assert err.startswith(f"earshot: port {user.port} on 127.0.0.1 is taken; choose another")
    code, out, err = user.runs("up", PATH="/nowhere", JAVA_HOME="")
    assert (code, out) == (2, "")
    assert err.startswith("earshot: Kafka needs Java 17 or later and there is none on PATH.")
    (user.state / "file").touch()
    code, out, err = user.runs("up", "--data-dir", str(user.state / "file"))
    assert (code, out) == (2, "")
    assert err.startswith(f"earshot: cannot keep Kafka's data in {user.state / 'file'}")
    assert user.status()[0] == 3
