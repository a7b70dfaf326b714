"""`earshot labels`, as a process of its own on a real broker."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

import pytest
from kafka import KafkaProducer

from earshot.labels import Label
from earshot.tail import LabelsUnavailable, TailSettings, labels
from earshot.topics import LABELS
from local.broker import Broker
from tests.earshot.test_segments import segment
from tests.processes import ROOT, Command
from tests.producers.test_publisher import free_broker, kill

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE_S = 60.0


def label(device_id: str, number: int = 0) -> Label:
    heard = segment(device_id=device_id, segment_id=f"{device_id}-{number}")
    return Label.of(heard, {"siren": 0.875, "dog_bark": 0.125}, model_name="earshot", model_version=3)


@pytest.fixture
def device() -> str:
    return f"mic-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def send(broker: Broker) -> Iterator[Callable[..., None]]:
    """Sends labels, or bytes that are none, and returns when the broker has them."""
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)

    def send(*values: Label | bytes) -> None:
        for value in values:
            record = value.to_record().value if isinstance(value, Label) else value
            producer.send(LABELS, key=b"one partition, so one order", value=record).get(30)

    yield send
    producer.close()


def tail(broker: Broker, log: Path, *options: str) -> Command:
    return Command("labels", "--bootstrap-servers", broker.bootstrap_servers, *options, log=log)


def ended(command: Command) -> str:
    """What it printed, once Ctrl-C has ended it well."""
    command.interrupt()
    assert command.wait(PATIENCE_S) == 0, command.output
    assert "Traceback" not in command.output
    return command.output


@pytest.mark.integration
def test_all_labels_of_a_device_are_printed_and_what_is_no_label_is_passed_over(
    broker: Broker, send: Callable[..., None], device: str, tmp_path: Path
) -> None:
    send(label(device), label("another"), b'{"label": "siren"}', b"\xff\xfe", label(device, 1), label(f"{device}-last"))
    with tail(broker, tmp_path / "all", "--since", "beginning") as command:
        command.wait_for(f"{device}-last", PATIENCE_S)
        printed = ended(command)
    lines = [line for line in printed.splitlines() if f" {device} " in line]
    assert len(lines) == 2
    for text in ("2026-11-23 ", "siren", "0.875", "earshot/3"):
        assert text in lines[0]
    assert printed.count("label skipped") == 2
    assert "label_id Field required" in printed


@pytest.mark.integration
def test_json_lines_are_the_labels_themselves_from_now_on(
    broker: Broker, send: Callable[..., None], device: str, tmp_path: Path
) -> None:
    send(label(device, 0))
    options = ["--device", device, "--json-lines"]
    with tail(broker, tmp_path / "log", *options) as command:
        number = 0
        while not command.output:  # it says nothing when it has begun, so labels come until one is printed
            number += 1
            assert number < 600
            send(label("another"), label(device, number))
            try:
                command.process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        printed = ended(command).splitlines()
    read = [Label.model_validate(json.loads(line)) for line in printed]
    numbers = [int(one.segment_id.rpartition("-")[2]) for one in read]
    assert numbers[0] > 0  # what came before it began is not printed
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert read[0] == label(device, numbers[0])


@pytest.mark.integration
def test_a_reader_that_has_enough_ends_it_quietly(broker: Broker, send: Callable[..., None], device: str) -> None:
    send(label(device), label(device, 1))
    program = [sys.executable, "-m", "earshot.cli", "labels", "--bootstrap-servers", broker.bootstrap_servers]
    with subprocess.Popen(
        [*program, "--since", "beginning", "--device", device],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        number = 2
        while process.poll() is None:
            send(label(device, number))
            number += 1
            assert number < 1000
        assert process.returncode == 0
        assert "Error" not in process.stderr.read()


@pytest.mark.integration
def test_an_outage_of_the_broker_is_told_and_labels_go_on_after_it(tmp_path: Path) -> None:
    own = free_broker(tmp_path)
    port = int(own.bootstrap_servers.rpartition(":")[2])
    try:
        with tail(own, tmp_path / "log", "--since", "beginning") as command:
            _send(own, label("before"))
            command.wait_for("before", PATIENCE_S)
            kill(own)
            command.wait_for("the broker is away", PATIENCE_S)
            own = Broker(tmp_path / "kafka", port)
            own.start()
            _send(own, label("after"))
            command.wait_for("the broker is back", PATIENCE_S)
            command.wait_for("after", PATIENCE_S)
            assert ended(command).count("the broker is") == 2
    finally:
        own.stop()


def _send(broker: Broker, value: Label) -> None:
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
    producer.send(LABELS, value=value.to_record().value).get(30)
    producer.close()


def test_where_no_broker_answers_the_message_has_the_address() -> None:
    settings = TailSettings.read({"bootstrap_servers": "127.0.0.1:9"})
    with pytest.raises(LabelsUnavailable, match=r"no Kafka broker answered at 127.0.0.1:9 in 0.3 s"):
        next(labels(settings, wait_s=0.3))
