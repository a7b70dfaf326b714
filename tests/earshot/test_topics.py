from __future__ import annotations

import dataclasses
import time
import uuid
from typing import TYPE_CHECKING

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from earshot.admin import Topics, TopicsError, create_topics
from earshot.topics import DEAD_LETTERS, LABELS, SEGMENTS, TOPICS, Topic
from tests.earshot.test_segments import segment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.broker import Broker

HOUR_MS = 3_600_000


@pytest.fixture
def fresh() -> tuple[Topic, ...]:
    """The project's topics under names that no other test uses."""
    suffix = uuid.uuid4().hex
    return tuple(dataclasses.replace(topic, name=f"{topic.name}-{suffix}") for topic in TOPICS)


@pytest.fixture
def admin(broker: Broker) -> Iterator[KafkaAdminClient]:
    client = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    yield client
    client.close()


def test_sound_is_kept_for_an_hour_and_what_was_made_of_it_for_a_week() -> None:
    kept = {topic.name: int(topic.config["retention.ms"]) for topic in TOPICS}
    assert kept == {SEGMENTS: HOUR_MS, LABELS: 7 * 24 * HOUR_MS, DEAD_LETTERS: 7 * 24 * HOUR_MS}
    for topic in TOPICS:  # Kafka deletes whole files: nothing must outlast its time by much in a file still open
        assert int(topic.config["segment.ms"]) <= kept[topic.name] / 6


@pytest.mark.integration
def test_topics_are_made_as_configured_and_ready_when_they_are_returned(
    broker: Broker, admin: KafkaAdminClient, fresh: tuple[Topic, ...]
) -> None:
    made = create_topics(broker.bootstrap_servers, partitions=3, topics=fresh)
    names = [topic.name for topic in fresh]
    assert made == Topics(created=names, partitions=dict.fromkeys(names, 3), replication=dict.fromkeys(names, 1))
    leaders = [part["leader_id"] for topic in admin.describe_topics(names) for part in topic["partitions"]]
    assert leaders == [1] * 9
    for topic in fresh:
        (answer,) = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name)])["topic"].values()
        values = {name: entry["value"] for name, entry in answer.items()}
        assert topic.config.items() <= values.items()
        assert values["message.timestamp.type"] == "LogAppendTime"


@pytest.mark.integration
def test_a_second_time_changes_nothing_whatever_is_asked_for(broker: Broker, fresh: tuple[Topic, ...]) -> None:
    create_topics(broker.bootstrap_servers, partitions=2, topics=fresh[:2])
    again = create_topics(broker.bootstrap_servers, partitions=5, topics=fresh)
    assert again.created == [fresh[2].name]
    assert again.partitions == {fresh[0].name: 2, fresh[1].name: 2, fresh[2].name: 5}


@pytest.mark.integration
def test_a_segments_timestamp_is_when_the_broker_took_it_whatever_the_device_thinks(
    broker: Broker, fresh: tuple[Topic, ...]
) -> None:
    create_topics(broker.bootstrap_servers, partitions=1, topics=fresh[:1])
    key, value, headers = segment().to_record()
    before_ms = 1000 * time.time()
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
    producer.send(fresh[0].name, key=key, value=value, headers=headers, timestamp_ms=1).get(30)
    producer.close()
    after_ms = 1000 * time.time()
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap_servers, auto_offset_reset="earliest")
    consumer.assign([TopicPartition(fresh[0].name, 0)])
    record = next(iter(consumer))
    consumer.close()
    assert before_ms - 1 <= record.timestamp <= after_ms + 1


@pytest.mark.integration
def test_what_a_broker_refuses_is_told_in_its_words_for_each_topic(broker: Broker, fresh: tuple[Topic, ...]) -> None:
    with pytest.raises(TopicsError) as caught:
        create_topics(broker.bootstrap_servers, replication=3, topics=fresh)
    head, *reasons = str(caught.value).splitlines()
    assert head == f"the broker at {broker.bootstrap_servers} refused"
    assert [reason.split(":")[0].strip() for reason in reasons] == [topic.name for topic in fresh]
    assert all("replication factor" in reason for reason in reasons)


@pytest.mark.parametrize("servers", ["127.0.0.1:9", "127.0.0.1:99999", "no-such-host.invalid:9092"])
def test_where_no_broker_answers_the_message_has_the_address(servers: str) -> None:
    with pytest.raises(TopicsError, match=f"no Kafka broker answered at {servers} in 0.3 s"):
        create_topics(servers, wait_s=0.3)
