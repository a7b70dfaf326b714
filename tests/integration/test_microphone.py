"""From a microphone to a label, every part real but the sound card: PulseAudio's null sink stands in for it."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest
from kafka import KafkaConsumer

from earshot.labels import Label
from earshot.segments import Record, Segment
from earshot.topics import LABELS, SEGMENTS
from local.settings import SAMPLES
from tests.processes import Command
from tests.pulse import pulse

if TYPE_CHECKING:
    from pathlib import Path

    from local.stack import Stack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


def of_device(stack: Stack, topic: str, device_id: str, least: int, timeout_s: float) -> list[Record]:
    """A device's records on a topic, once there are at least so many."""
    consumer = KafkaConsumer(topic, bootstrap_servers=stack.bootstrap_servers, auto_offset_reset="earliest")
    found: list[Record] = []
    deadline = time.monotonic() + timeout_s
    try:
        while len(found) < least and time.monotonic() < deadline:
            for records in consumer.poll(timeout_ms=200).values():
                found += [Record(one.key, one.value, one.headers) for one in records if one.key == device_id.encode()]
    finally:
        consumer.close()
    return found


def test_what_a_microphone_hears_comes_out_as_labels(stack: Stack, tmp_path: Path) -> None:
    device = "microphone-under-test"
    arguments = ["--bootstrap-servers", stack.bootstrap_servers, "--device-id", device, "--metrics-port", "0"]
    with pulse() as server, Command("agent", *arguments, log=tmp_path / "log", **server.environment) as agent:
        agent.wait_for("listening", 60.0)
        server.play(SAMPLES / "jackhammer.wav")
        labels = of_device(stack, LABELS, device, 1, 60.0)
        agent.process.send_signal(signal.SIGTERM)
        assert agent.wait(60.0) == 0, agent.output
        assert agent.left_behind() == []
    segments = [Segment.from_record(*record) for record in of_device(stack, SEGMENTS, device, len(labels), 60.0)]
    assert labels, agent.output
    heard = Label.from_record(labels[0][1])
    assert heard.segment_id == segments[0].segment_id
    assert heard.trigger == segments[0].trigger != "continued"
    assert segments[0].level_dbfs > -40.0
