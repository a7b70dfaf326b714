"""Workers that end in mid-stream, or lose their broker there: nothing is lost, and an orderly stop repeats nothing."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from kafka import KafkaAdminClient, OffsetAndMetadata, TopicPartition
from kafka.errors import NoError

from local.broker import Broker
from local.ports import free_ports
from tests.processors.model import Model, ModelServer
from tests.processors.segments import segment
from tests.processors.worker import PATIENCE_S, Topics, Worker

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration


def test_given_a_worker_killed_in_mid_stream_and_another_beside_it_then_every_segment_gets_a_label(
    broker: Broker,
) -> None:
    topics = Topics(broker)
    model = Model()
    model.delay_s = 0.3
    segments = [segment(number, device_id=f"device-{number % 16}") for number in range(240)]
    with ModelServer(model) as server, Worker(topics, server.address, max_batch=4) as first:
        first.wait_until_ready()
        topics.send([one.to_record() for one in segments])
        topics.read(topics.labels, lambda records: len(records) >= 16)
        # The second worker joins while the first is at work, so partitions move under load, and then the first dies.
        with Worker(topics, server.address, max_batch=4, session_timeout_s=6) as second:
            second.wait_until_ready()
            first.kill()
            seen = topics.read(topics.labels, lambda records: len(records) >= 16)
            assert len(seen) < len(segments), "the kill came too late to prove anything"
            model.delay_s = 0.0
            labels = topics.read_labels(one.segment_id for one in segments)
            assert second.terminate() == 0
    ids = {label.segment_id: label.label_id for label in labels}
    assert len(ids) == len(segments)
    assert all(ids[label.segment_id] == label.label_id for label in labels), "a repeated label has the same id"


def test_given_a_broker_that_goes_away_and_comes_back_then_every_segment_gets_a_label(tmp_path: Path) -> None:
    own = Broker(tmp_path / "kafka", port=free_ports(1)[0])
    own.start()
    try:
        topics = Topics(own)
        model = Model()
        model.delay_s = 0.3
        segments = [segment(number, device_id=f"device-{number % 8}") for number in range(60)]
        with ModelServer(model) as server, Worker(topics, server.address, max_batch=4) as worker:
            worker.wait_until_ready()
            topics.send([one.to_record() for one in segments])
            topics.read(topics.labels, lambda records: len(records) >= 8)
            own.stop()
            model.delay_s = 0.0
            time.sleep(3.0)
            own.start()
            late = segment(device_id="late")
            topics.send([late.to_record()])
            topics.read_labels([late.segment_id, *(one.segment_id for one in segments)])
            assert worker.terminate() == 0
    finally:
        own.stop()


def test_given_sigterm_then_the_batch_in_hand_is_finished_and_the_rest_is_left_to_the_next_worker(
    broker: Broker,
) -> None:
    topics = Topics(broker, partitions=1)
    model = Model()
    model.delay_s = 0.5
    segments = [segment(number) for number in range(40)]
    with ModelServer(model) as server:
        with Worker(topics, server.address, max_batch=4) as first:
            first.wait_until_ready()
            topics.send([one.to_record() for one in segments])
            topics.read(topics.labels, lambda records: len(records) >= 4)
            assert first.terminate() == 0
        done = topics.read(topics.labels, lambda records: len(records) >= 4)
        assert len(done) < len(segments)
        model.delay_s = 0.0
        with Worker(topics, server.address) as second:
            labels = topics.read_labels(one.segment_id for one in segments)
            assert second.wait_until_ready().terminate() == 0
    assert len(labels) == len(segments), "an orderly stop repeats nothing"


def test_given_a_record_that_cannot_be_parsed_then_workers_end_at_it_and_go_on_once_it_is_skipped(
    broker: Broker,
) -> None:
    topics = Topics(broker, partitions=1)
    before, after = segment(1), segment(2)
    with ModelServer() as server:
        with Worker(topics, server.address) as first:
            first.wait_until_ready()
            topics.send([before.to_record()])
            topics.read_labels([before.segment_id])
            # Not UTF-8, which Kafka asks of the names of headers: brokers take it all the same.
            address, topic = topics.bootstrap_servers.encode(), topics.segments.encode()
            write = [b"kcat", b"-P", b"-b", address, b"-t", topic, b"-H", b"\xff\xfe=1"]
            subprocess.run(write, input=b"sound", check=True)
            topics.send([after.to_record()])
            assert first.wait() == 1, "a supervisor would start it again"
            assert "UnicodeDecodeError" in first.last_line
        _go_on_at(topics, TopicPartition(topics.segments, 0), 2)  # as kafka-consumer-groups.sh --reset-offsets does
        with Worker(topics, server.address) as second:
            labels = topics.read_labels([before.segment_id, after.segment_id])
            assert second.wait_until_ready().terminate() == 0
    assert len(labels) == 2


def _go_on_at(topics: Topics, partition: TopicPartition, offset: int) -> None:
    """Set the group's offset, which Kafka allows once the session of the worker that died has timed out."""
    admin = KafkaAdminClient(bootstrap_servers=topics.bootstrap_servers)
    wanted = {partition: OffsetAndMetadata(offset, "", -1)}
    try:
        give_up_at = time.monotonic() + PATIENCE_S
        while (answer := admin.alter_group_offsets(f"group-{topics.segments}", wanted)) != {partition: NoError}:
            assert time.monotonic() < give_up_at, answer
            time.sleep(0.5)
    finally:
        admin.close()
