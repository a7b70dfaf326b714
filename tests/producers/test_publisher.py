"""The publisher against a real broker: what it sends, and what it does when broker or topic are not there."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import TopicAuthorizationFailedError

from earshot.admin import create_topics
from earshot.segments import Segment
from earshot.topics import SEGMENTS, Topic
from local.broker import Broker
from producers import publisher as publisher_module
from producers.publisher import BrokerUnreachable, Publisher, Refused, TopicForbidden, TopicMissing
from producers.settings import AgentSettings
from tests.producers.sounds import noise
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def agent_settings(bootstrap_servers: str, **values: Any) -> AgentSettings:
    texts = {name: str(value) for name, value in values.items()}
    return AgentSettings.read({"bootstrap_servers": bootstrap_servers, "device_id": f"mic-{uuid.uuid4()}", **texts})


def segments(device_id: str, count: int, first: int = 0) -> list[Segment]:
    return [
        Segment(str(uuid.uuid4()), device_id, first + n, datetime.now(UTC), "vad", -20.0, noise(3.0, -20.0, seed=n))
        for n in range(count)
    ]


def read_back(bootstrap_servers: str, device_id: str) -> list[Segment]:
    """Every segment of a device that the broker holds."""
    consumer = KafkaConsumer(SEGMENTS, bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest", group_id=None)
    try:
        while not consumer.assignment():
            consumer.poll(timeout_ms=100)
        ends = consumer.end_offsets(list(consumer.assignment()))
        records: list[Any] = []
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            records += [record for batch in consumer.poll(timeout_ms=500).values() for record in batch]
    finally:
        consumer.close()
    return [
        Segment.from_record(record.key, record.value, record.headers)
        for record in records
        if record.key == device_id.encode()
    ]


def no_threads_of(settings: AgentSettings) -> bool:
    return not [thread for thread in threading.enumerate() if settings.device_id in thread.name]


def free_broker(tmp_path: Path) -> Broker:
    """A broker of the test's own, that may be killed and started again on its port and its data."""
    broker = Broker(tmp_path / "kafka")
    broker.start()
    create_topics(broker.bootstrap_servers)
    return broker


def kill(broker: Broker) -> None:
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGKILL)
    broker.stop()


@pytest.mark.integration
def test_segments_arrive_as_they_were_cut_and_in_order(broker: Broker) -> None:
    settings = agent_settings(broker.bootstrap_servers)
    acknowledged: list[tuple[str, int]] = []
    before_ms = time.time() * 1000
    with Publisher(settings, on_ack=lambda segment, ms: acknowledged.append((segment.segment_id, ms))) as publisher:
        sent = segments(settings.device_id, 8)
        assert all(publisher.send(segment) for segment in sent)
        assert publisher.flush()
        assert (publisher.sent, publisher.queued, publisher.dropped) == (8, 0, 0)
    received = read_back(broker.bootstrap_servers, settings.device_id)
    assert [segment.segment_id for segment in received] == [segment.segment_id for segment in sent]
    for ours, theirs in zip(sent, received, strict=True):
        assert ours.to_record() == theirs.to_record()
        assert np.array_equal(ours.pcm, theirs.pcm)
    assert [segment_id for segment_id, _ in acknowledged] == [segment.segment_id for segment in sent]
    assert all(before_ms - 1000 < ms < time.time() * 1000 + 1000 for _, ms in acknowledged)
    assert no_threads_of(settings)


@pytest.mark.integration
def test_an_outage_is_ridden_out_and_every_queued_segment_arrives_once(tmp_path: Path) -> None:
    broker = free_broker(tmp_path)
    try:
        settings = agent_settings(broker.bootstrap_servers, queue_segments=20)
        port = int(broker.bootstrap_servers.rsplit(":", 1)[1])
        with Publisher(settings) as publisher:
            before, during, beyond = segments(settings.device_id, 3), segments(settings.device_id, 20, 3), 4
            assert all(publisher.send(segment) for segment in before)
            assert publisher.flush()
            kill(broker)
            assert all(publisher.send(segment) for segment in during)
            assert not publisher.flush(0.5)
            assert not any(publisher.send(segment) for segment in segments(settings.device_id, beyond, 23))
            assert (publisher.queued, publisher.dropped) == (20, beyond)
            broker = Broker(tmp_path / "kafka", port)
            broker.start()
            assert publisher.flush(60)
            assert (publisher.sent, publisher.queued, publisher.dropped) == (23, 0, beyond)
            after = segments(settings.device_id, 1, 27)
            assert publisher.send(after[0])
            assert publisher.flush(60)
        received = read_back(broker.bootstrap_servers, settings.device_id)
        assert [segment.segment_id for segment in received] == [
            segment.segment_id for segment in [*before, *during, *after]
        ]
    finally:
        broker.stop()


@pytest.mark.integration
def test_a_segment_that_the_broker_refuses_for_good_ends_the_sending_with_what_to_do(broker: Broker) -> None:
    topic = f"small-{uuid.uuid4()}"
    create_topics(broker.bootstrap_servers, topics=(Topic(topic, {"max.message.bytes": "1000"}),))
    settings = agent_settings(broker.bootstrap_servers)
    one, other = segments(settings.device_id, 2)
    with Publisher(settings, topic=topic) as publisher:
        assert publisher.send(one)
        assert publisher.flush(20)
        assert (publisher.sent, publisher.dropped) == (0, 1)
        with pytest.raises(Refused, match="start again"):
            publisher.send(other)
        assert (publisher.queued, publisher.dropped) == (0, 2)
    assert no_threads_of(settings)


@pytest.mark.integration
def test_a_publisher_that_is_closed_in_an_outage_lets_go_and_counts_what_it_lost(tmp_path: Path) -> None:
    broker = free_broker(tmp_path)
    try:
        settings = agent_settings(broker.bootstrap_servers)
        publisher = Publisher(settings)
        broker.stop()
        assert all(publisher.send(segment) for segment in segments(settings.device_id, 3))
        assert not publisher.flush(0.5)
        publisher.close()
        assert (publisher.sent, publisher.queued, publisher.dropped) == (0, 0, 3)
        assert no_threads_of(settings)
    finally:
        broker.stop()


def test_without_a_broker_the_message_says_where_it_looked() -> None:
    with pytest.raises(BrokerUnreachable, match=r"127\.0\.0\.1:9.*start it, or say where it is"):
        Publisher(agent_settings("127.0.0.1:9", broker_wait_s=1))


def sends_at_once(settings: AgentSettings) -> None:
    with Publisher(settings) as publisher:
        assert all(publisher.send(segment) for segment in segments(settings.device_id, 3))
        assert publisher.flush()
        assert (publisher.sent, publisher.dropped) == (3, 0)


def once_connected(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """Have something happen to the broker when a publisher has found it, and not yet asked for its topic."""
    connect = publisher_module._connect

    def connect_and_go_on(settings: AgentSettings) -> KafkaProducer:
        producer = connect(settings)
        happens()
        return producer

    monkeypatch.setattr(publisher_module, "_connect", connect_and_go_on)


@pytest.mark.integration
def test_a_broker_that_stalls_at_the_start_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = free_broker(tmp_path)
    pid = broker.pid
    assert pid is not None
    awake = threading.Timer(2 * publisher_module.SEND_BLOCKS_S, os.kill, (pid, signal.SIGCONT))

    def stall() -> None:
        os.kill(pid, signal.SIGSTOP)
        awake.start()

    once_connected(monkeypatch, stall)
    try:
        sends_at_once(agent_settings(broker.bootstrap_servers, broker_wait_s=120))
    finally:
        awake.join()
        broker.stop()


@pytest.mark.integration
def test_a_broker_that_is_started_again_meanwhile_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as undo:
        broker = free_broker(tmp_path)
        undo.callback(broker.stop)
        again = Broker(tmp_path / "kafka", int(broker.bootstrap_servers.rsplit(":", 1)[1]))
        undo.callback(again.stop)
        back = threading.Timer(2 * publisher_module.SEND_BLOCKS_S, again.start)

        def die() -> None:
            kill(broker)
            back.start()

        once_connected(monkeypatch, die)
        undo.callback(back.join)
        sends_at_once(agent_settings(broker.bootstrap_servers, broker_wait_s=120))


@pytest.mark.integration
def test_a_broker_that_stalls_for_good_is_told_from_one_without_the_topic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = free_broker(tmp_path)
    pid = broker.pid
    assert pid is not None
    once_connected(monkeypatch, lambda: os.kill(pid, signal.SIGSTOP))
    settings = agent_settings(broker.bootstrap_servers, broker_wait_s=1)
    try:
        with pytest.raises(BrokerUnreachable, match="did not say within 1 s where topic 'segments' is"):
            Publisher(settings)
        wait_for(lambda: no_threads_of(settings), 30, "the producer's thread to end")
    finally:
        os.kill(pid, signal.SIGCONT)
        broker.stop()


@pytest.mark.integration
def test_a_topic_that_the_agent_may_not_see_is_told_from_one_that_is_missing(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: KafkaProducer, topic: str) -> None:
        raise TopicAuthorizationFailedError({topic})

    monkeypatch.setattr(KafkaProducer, "partitions_for", refuse)  # the tests' broker lets everybody do everything
    settings = agent_settings(broker.bootstrap_servers)
    with pytest.raises(TopicForbidden, match="grant it DESCRIBE and WRITE"):
        Publisher(settings)
    assert no_threads_of(settings)


@pytest.mark.integration
def test_without_the_topic_the_message_says_how_to_make_it(broker: Broker) -> None:
    settings = agent_settings(broker.bootstrap_servers)
    with pytest.raises(TopicMissing, match="earshot topics"):
        Publisher(settings, topic=f"absent-{uuid.uuid4()}")
    assert no_threads_of(settings)
