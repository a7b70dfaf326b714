"""The agent as a user runs it: `python -m producers` in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from earshot.admin import create_topics
from local.broker import Broker
from local.ports import free_ports
from tests.processes import Command
from tests.producers.test_publisher import read_back
from tests.pulse import NO_ALSA, Pulse, pulse

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0


@pytest.fixture
def port() -> int:
    """Of the metrics."""
    return free_ports(1)[0]


@pytest.fixture
def server() -> Iterator[Pulse]:
    with pulse() as server:
        yield server


def agent(log: Path, *options: str, **environment: str) -> Command:
    return Command(*options, log=log, module="producers", **environment)


def scrape(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        values: dict[str, float] = {}
        for sample in (sample for family in families for sample in family.samples):
            values[sample.name] = values.get(sample.name, 0.0) + sample.value
    return values


def scraped(port: int, name: str, least: float) -> dict[str, float]:
    """The metrics, once one of them has reached a value."""
    until_s = time.monotonic() + PATIENCE_S
    while True:
        metrics = scrape(port)
        if metrics.get(name, 0.0) >= least:
            return metrics
        assert time.monotonic() < until_s, metrics
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sends_what_is_queued_and_ends_the_agent_well(
    server: Pulse, broker: Broker, tmp_path: Path, port: int, number: signal.Signals
) -> None:
    device_id = f"mic-{uuid.uuid4()}"
    options = ["--device-id", device_id, "--metrics-port", str(port)]
    options += ["--bootstrap-servers", broker.bootstrap_servers]
    with agent(tmp_path / "log", *options, **server.environment) as command:
        command.wait_for("listening", PATIENCE_S)
        scraped(port, "earshot_agent_frames_total", 10)
        server.play(ROOT / "samples" / "street_music.wav")
        metrics = scraped(port, "earshot_agent_segments_sent_total", 1)
        command.process.send_signal(number)  # with a second segment still open
        assert command.wait(PATIENCE_S) == 0, command.output
        assert command.left_behind() == []
        assert "Traceback" not in command.output
    received = read_back(broker.bootstrap_servers, device_id)
    assert [segment.sequence for segment in received] == list(range(len(received)))
    assert [segment.trigger for segment in received][1:] == ["continued"] * (len(received) - 1)
    assert len(received) >= 2
    assert metrics["earshot_agent_segments_cut_total"] >= 1
    assert metrics["earshot_agent_send_latency_seconds_count"] >= 1
    assert metrics["earshot_agent_input_level_dbfs"] < 0
    assert metrics["earshot_agent_queue_segments"] >= 0


def test_a_signal_in_an_outage_ends_the_agent_too(server: Pulse, tmp_path: Path, port: int) -> None:
    with Broker(tmp_path / "kafka") as broker:
        create_topics(broker.bootstrap_servers)
        options = ["--bootstrap-servers", broker.bootstrap_servers, "--metrics-port", str(port)]
        with agent(tmp_path / "log", *options, "--flush-s", "1", **server.environment) as command:
            command.wait_for("listening", PATIENCE_S)
            scraped(port, "earshot_agent_frames_total", 10)
            broker.stop()
            server.play(ROOT / "samples" / "siren.wav")
            scraped(port, "earshot_agent_queue_segments", 1)
            command.process.send_signal(signal.SIGTERM)
            assert command.wait(PATIENCE_S) == 0, command.output
            assert "queued segments are lost" in command.output
            assert "Traceback" not in command.output


def one_message(log: Path, *options: str, **environment: str) -> str:
    """What an agent prints that fails for a reason that the user can mend."""
    with agent(log, *options, **environment) as command:
        assert command.wait(PATIENCE_S) == 2, command.output
        output = command.output
    assert output.startswith("earshot: "), output
    assert "Traceback" not in output
    return output


def test_without_a_microphone_the_agent_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "asound.conf").write_text(NO_ALSA)
    message = one_message(tmp_path / "log", ALSA_CONFIG_PATH=str(tmp_path / "asound.conf"))
    assert "no microphone" in message
    assert "plug one in" in message
    assert "ALSA" not in message


def test_without_a_broker_the_agent_says_what_to_do(server: Pulse, tmp_path: Path) -> None:
    options = ["--bootstrap-servers", "127.0.0.1:9", "--broker-wait-s", "1", "--metrics-port", "0"]
    message = one_message(tmp_path / "log", *options, **server.environment)
    assert "no Kafka broker answered at 127.0.0.1:9" in message


def test_a_metrics_port_that_is_taken_is_named(server: Pulse, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = one_message(tmp_path / "log", "--metrics-port", str(port), **server.environment)
    assert f"port {port} of 127.0.0.1" in message
    assert "--metrics-port" in message


def test_an_unknown_value_is_told_with_its_variable(tmp_path: Path) -> None:
    assert "EARSHOT_AGENT_GATE" in one_message(tmp_path / "log", "--gate", "loud")


def test_the_devices_are_listed(server: Pulse) -> None:
    code = "from producers.command import show_devices; show_devices()"
    listed = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **server.environment},
        capture_output=True,
        check=True,
        text=True,
    )
    assert listed.stdout.startswith("0: default (")
    assert "default)" in listed.stdout
