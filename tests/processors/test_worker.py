"""Workers as processes, on a real Kafka broker; only the model server's scores are made up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import pytest
from kafka import KafkaAdminClient, TopicPartition

from earshot.labels import label_id
from earshot.segments import Record
from tests.processors.model import CLASSES, VERSION, ModelServer, scores_of
from tests.processors.segments import segment
from tests.processors.worker import PATIENCE_S, Topics, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.broker import Broker

pytestmark = pytest.mark.integration

BUDGET_S = 6.0


class Running(NamedTuple):
    """A worker that others share, and what is around it."""

    worker: Worker
    topics: Topics
    server: ModelServer


@pytest.fixture(scope="module")
def running(broker: Broker) -> Iterator[Running]:
    topics = Topics(broker)
    with ModelServer() as server, Worker(topics, server.address, retry_budget_s=BUDGET_S) as worker:
        yield Running(worker.wait_until_ready(), topics, server)


def changed(record: Record, *, value: bytes | None = None, without: str = "", **headers: bytes) -> Record:
    """`record` with another value and headers, `content_type` for `content-type`."""
    values = {name.replace("_", "-") if name == "content_type" else name: text for name, text in headers.items()}
    kept = [(name, values.get(name, text)) for name, text in record.headers if name != without]
    return Record(record.key, record.value if value is None else value, kept)


def test_given_segments_of_many_devices_then_each_gets_the_label_of_its_own_sound(running: Running) -> None:
    segments = [segment(number, device_id=f"device-{number % 5}") for number in range(30)]
    running.topics.send([one.to_record() for one in segments])
    labels = {label.segment_id: label for label in running.topics.read_labels(one.segment_id for one in segments)}

    from earshot.spectrogram import spectrogram

    for one in segments:
        label = labels[one.segment_id]
        expected = dict(zip(CLASSES, scores_of(spectrogram(one.pcm)).tolist(), strict=True))
        assert label.label == max(expected, key=expected.__getitem__)
        assert label.scores == pytest.approx(expected, abs=1e-5)
        assert (label.device_id, label.start) == (one.device_id, one.start)
        assert (label.model_version, label.label_id) == (VERSION, label_id(one.segment_id, "earshot", VERSION))
    assert max(running.server.model.batches) > 1, "segments that came together were asked one by one"

    for record in running.topics.read(running.topics.labels, lambda records: len(records) >= 30):
        assert dict(record.headers)["ce_type"] == b"earshot.label.v1"
        assert record.key.startswith(b"device-")


def test_given_records_outside_the_contract_then_they_are_dead_lettered_whole_and_the_rest_goes_on(
    running: Running,
) -> None:
    good = [segment(number, device_id="porch") for number in range(6)]
    record = segment(device_id="porch").to_record()
    bad = {
        "short": changed(record, value=record.value[:-2]),
        "empty": changed(record, value=b""),
        "rate": changed(record, content_type=b"audio/L16; rate=8000; channels=1; endian=little"),
        "no id": changed(record, without="ce_id"),
        "no headers": Record(b"porch", record.value, []),
        "garbage": Record(b"porch", b"\xff\xfe garbage", [("ce_id", b"\xff\xff")]),
        "no key": Record(b"", record.value, record.headers),
        "before all calendars": changed(record, ce_time=b"0001-01-01T00:00:00+23:00"),
        "no level": changed(record, earshot_level_dbfs=b"nan"),
    }
    # One device, so that good and bad ones share a partition: a worker that stops at one never reaches the last.
    sent = [one.to_record() for one in good]
    running.topics.send([*sent[:3], *bad.values(), *sent[3:]])

    running.topics.read_labels(one.segment_id for one in good)
    letters = running.topics.read(
        running.topics.dead_letters,
        lambda letters: sum(dict(letter.headers)["earshot_stage"] == b"decode" for letter in letters) >= len(bad),
    )
    decoded = [letter for letter in letters if dict(letter.headers)["earshot_stage"] == b"decode"]
    assert len(decoded) == len(bad)
    for name, original in bad.items():
        headers = original.headers
        (letter,) = (
            one
            for one in decoded
            if (one.key or b"", one.value, one.headers[: len(headers)]) == (original.key, original.value, headers)
            and len(one.headers) == len(headers) + 7
        )
        told = dict(letter.headers)
        assert told["__streams.errors.exception"] == b"earshot.segments.InvalidSegment", name
        assert told["__streams.errors.topic"] == running.topics.segments.encode(), name
        assert int(told["__streams.errors.offset"]) >= 0, name
        assert told["__streams.errors.message"], name


def test_given_records_as_large_as_kafka_takes_then_their_dead_letters_leave_out_what_does_not_fit(
    running: Running,
) -> None:
    good = segment(device_id="loft")
    large = [Record(b"loft", b"x" * 1_048_000, []), Record(b"loft", b"", [("note", b"x" * 1_048_000)])]
    running.topics.send([*large, good.to_record()])
    assert running.topics.is_labelled(good.segment_id)
    letters = running.topics.read(
        running.topics.dead_letters,
        lambda letters: sum("dropped" in str(letter.headers) for letter in letters) >= len(large),
    )
    dropped = [
        (letter.key, name, int(size)) for letter in letters for name, size in letter.headers if name.endswith("dropped")
    ]
    assert sorted(dropped) == [
        (b"", "earshot_headers_dropped", 1_048_000 + len("note") + len(b"loft")),
        (b"loft", "earshot_value_dropped", 1_048_000),
    ]


def test_given_one_segment_that_the_model_refuses_then_its_neighbours_get_their_labels(running: Running) -> None:
    from earshot.spectrogram import spectrogram

    segments = [segment(number, device_id="yard") for number in range(5)]
    refused = spectrogram(segments[2].pcm).tobytes()
    running.server.model.refuses = lambda image: image.tobytes() == refused
    try:
        running.topics.send([one.to_record() for one in segments])
        running.topics.read_labels(one.segment_id for one in segments if one is not segments[2])
        (letter,) = (
            one
            for one in running.topics.read(
                running.topics.dead_letters,
                lambda letters: any(letter.key == b"yard" for letter in letters),
            )
            if one.key == b"yard"
        )
    finally:
        running.server.model.refuses = lambda image: False
    headers = dict(letter.headers)
    assert headers["earshot_stage"] == b"predict"
    assert headers["ce_id"] == segments[2].segment_id.encode()
    assert b"INVALID_ARGUMENT" in headers["__streams.errors.message"]


def test_given_a_model_server_that_goes_away_and_comes_back_then_every_segment_gets_a_label(running: Running) -> None:
    running.server.stop()
    segments = [segment(number, device_id="attic") for number in range(8)]
    running.topics.send([one.to_record() for one in segments])
    time.sleep(BUDGET_S / 3)
    running.server.start()
    running.topics.read_labels(one.segment_id for one in segments)


def test_given_a_model_server_that_stays_away_then_segments_are_dead_lettered_with_stage_predict(
    running: Running,
) -> None:
    running.server.stop()
    try:
        segments = [segment(number, device_id="cellar") for number in range(40)]
        running.topics.send([one.to_record() for one in segments])
        letters = running.topics.read(
            running.topics.dead_letters, lambda letters: sum(one.key == b"cellar" for one in letters) >= len(segments)
        )
    finally:
        running.server.start()
    headers = [dict(one.headers) for one in letters if one.key == b"cellar"]
    assert {one["ce_id"].decode() for one in headers} == {one.segment_id for one in segments}
    assert {one["earshot_stage"] for one in headers} == {b"predict"}
    assert {one["__streams.errors.exception"] for one in headers} == {b"processors.predictor.ModelAway"}

    # Connecting anew takes gRPC up to a second, and a segment that comes before is a dead letter as those above were.
    for attempt in range(100):
        again = segment(attempt, device_id="cellar-again")
        running.topics.send([again.to_record()])
        if running.topics.is_labelled(again.segment_id):
            return
    pytest.fail("segments are dead letters still, though the model server is back")


def test_metrics_count_what_was_done_and_offsets_follow(running: Running) -> None:
    one = segment(device_id="counted")
    running.topics.send([one.to_record()])
    running.topics.read_labels([one.segment_id])
    status, text = running.worker.get("/metrics")
    assert status == 200
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    assert float(lines["earshot_processor_segments_total"]) >= 1
    assert any(name.startswith("earshot_processor_labels_total{") for name in lines)
    assert float(lines["earshot_processor_end_to_end_seconds_count"]) >= 1
    assert float(lines["earshot_processor_spectrogram_seconds_count"]) >= 1
    assert float(lines["earshot_processor_model_ready"]) == 1
    assert "earshot_processor_faust_messages_received_total" in lines

    admin = KafkaAdminClient(bootstrap_servers=running.topics.bootstrap_servers)
    try:
        give_up_at = time.monotonic() + PATIENCE_S
        while _lag(admin, running.topics) != 0:
            assert time.monotonic() < give_up_at
            time.sleep(0.2)
    finally:
        admin.close()
    assert list(running.worker.workdir.iterdir()) == [], "a worker leaves no files behind"


def _lag(admin: KafkaAdminClient, topics: Topics) -> int:
    """Records of the segments topic that the group has not committed."""
    from kafka import KafkaConsumer

    consumer = KafkaConsumer(
        bootstrap_servers=topics.bootstrap_servers, group_id=f"group-{topics.segments}", enable_auto_commit=False
    )
    try:
        partitions = [
            TopicPartition(topics.segments, number) for number in consumer.partitions_for_topic(topics.segments) or ()
        ]
        ends = consumer.end_offsets(partitions)
        return sum(end - (consumer.committed(partition) or 0) for partition, end in ends.items())
    finally:
        consumer.close()
