"""Nothing is lost, and memory stays bounded, whatever comes and goes around a worker; on a real Kafka broker."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition

from earshot.labels import label_id
from tests.processors.model import VERSION, Model, ModelServer
from tests.processors.segments import segment
from tests.processors.worker import PATIENCE_S, Topics, Worker

if TYPE_CHECKING:
    import faust

    from local.broker import Broker

DAY_S = 24 * 3600.0
MAX_BATCH = 4
MOST_MEMORY_MB = 64.0
"""What a backlog may add to a worker, four times what was measured; the backlog in the test is 144 MB."""


def test_a_worker_that_reads_nothing_for_long_is_never_taken_out_of_its_group(app: faust.App) -> None:
    # The real thing takes as long as the interval that is set: a spare worker and one whose model was away at the start
    # were both stuck for good after 1,000 s with an interval of 960 s, and went on with this one.
    assert app.conf.broker_max_poll_interval > 365 * DAY_S


@pytest.mark.integration
def test_given_workers_that_join_and_leave_under_a_backlog_then_every_segment_gets_a_label(broker: Broker) -> None:
    topics = Topics(broker)
    model = Model()
    model.delay_s = 1.0
    segments = [segment(number, device_id=f"device-{number % 12}") for number in range(120)]
    with ModelServer(model) as server, Worker(topics, server.address, max_batch=MAX_BATCH) as first:
        first.wait_until_ready()
        topics.send([one.to_record() for one in segments])
        with Worker(topics, server.address, max_batch=MAX_BATCH) as second:
            second.wait_until_ready()  # the first had to give up partitions of which it has segments in hand
            assert first.terminate() == 0  # and the second takes them back
            seen = topics.read(topics.labels, bool)
            assert len(seen) < len(segments), "the rebalances came too late to prove anything"
            model.delay_s = 0.0
            labels = topics.read_labels(one.segment_id for one in segments)
            assert second.terminate() == 0
    assert {label.label_id for label in labels} == {label_id(one.segment_id, "earshot", VERSION) for one in segments}


@pytest.mark.integration
def test_given_segments_that_come_twice_and_out_of_order_then_each_copy_gets_the_same_label_id(broker: Broker) -> None:
    topics = Topics(broker)
    segments = [segment(number, device_id="porch") for number in range(12)]
    sent = [*reversed(segments), *segments[::2]]
    with ModelServer() as server, Worker(topics, server.address) as worker:
        worker.wait_until_ready()
        topics.send([one.to_record() for one in sent])
        records = topics.read(topics.labels, lambda records: len(records) >= len(sent))
        assert worker.terminate() == 0
    ids = [dict(record.headers)["ce_id"].decode() for record in records]
    assert ids == [label_id(one.segment_id, "earshot", VERSION) for one in sent], "one device's labels keep their order"
    assert sorted(Counter(ids).values()) == [1] * 6 + [2] * 6


@pytest.mark.integration
def test_given_segments_that_retention_dropped_while_no_worker_ran_then_the_next_one_labels_what_is_left(
    broker: Broker,
) -> None:
    topics = Topics(broker, partitions=1)
    early, dropped, kept = (
        [segment(number, device_id=device) for number in range(8)] for device in ("early", "dropped", "kept")
    )
    with ModelServer() as server:
        with Worker(topics, server.address) as first:
            first.wait_until_ready()
            topics.send([one.to_record() for one in early])
            topics.read_labels(one.segment_id for one in early)
            assert first.terminate() == 0
        topics.send([one.to_record() for one in (*dropped, *kept)])
        partition = TopicPartition(topics.segments, 0)
        admin = KafkaAdminClient(bootstrap_servers=topics.bootstrap_servers)
        try:
            admin.delete_records({partition: len(early) + len(dropped)})  # what retention does, at a moment of our own
        finally:
            admin.close()
        with Worker(topics, server.address) as second:
            labels = topics.read_labels(one.segment_id for one in kept)
            # Faust counts the first record after such a gap twice and commits only that far; its next commit goes on.
            give_up_at = time.monotonic() + PATIENCE_S
            while _committed(topics, partition) != len(early) + len(dropped) + len(kept):
                assert time.monotonic() < give_up_at, "commits do not get past the gap"
                time.sleep(0.2)
            assert second.terminate() == 0
    assert {label.device_id for label in labels} == {"early", "kept"}
    assert len(labels) == len(early) + len(kept)


@pytest.mark.integration
def test_given_a_slow_model_and_a_long_backlog_then_segments_wait_in_kafka_and_not_in_memory(broker: Broker) -> None:
    topics = Topics(broker)
    model = Model()
    first = [segment(number, device_id=f"device-{number % 8}") for number in range(40)]
    with ModelServer(model) as server, Worker(topics, server.address, max_batch=MAX_BATCH) as worker:
        worker.wait_until_ready()
        topics.send([one.to_record() for one in first])
        topics.read_labels(one.segment_id for one in first)
        at_rest = _metrics(worker)["process_resident_memory_bytes"]

        model.delay_s = 1.0
        topics.send([segment(number, device_id=f"device-{number % 16}").to_record() for number in range(1500)])
        asked = len(model.batches)
        give_up_at = time.monotonic() + PATIENCE_S
        while len(model.batches) < asked + 6:
            assert time.monotonic() < give_up_at, "the worker does not ask the model"
            metrics = _metrics(worker)
            # With the model, prefetched, and the one that waits to be.
            assert metrics["earshot_processor_in_flight_segments"] <= 2 * MAX_BATCH + 1
            assert metrics["process_resident_memory_bytes"] - at_rest < MOST_MEMORY_MB * 1e6
            time.sleep(0.2)
        assert metrics["earshot_processor_in_flight_segments"] >= MAX_BATCH, "there was no backlog to hold back"


def _metrics(worker: Worker) -> dict[str, float]:
    _, text = worker.get("/metrics")
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def _committed(topics: Topics, partition: TopicPartition) -> int | None:
    consumer = KafkaConsumer(
        bootstrap_servers=topics.bootstrap_servers, group_id=f"group-{topics.segments}", enable_auto_commit=False
    )
    try:
        offset: int | None = consumer.committed(partition)
    finally:
        consumer.close()
    return offset
