"""Creates the topics on a broker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import Field

from earshot.settings import KafkaSettings
from earshot.topics import TOPICS, Topic

_EXISTS = 36
"""Kafka's error code for a topic that is there already."""


class TopicsError(RuntimeError):
    """The topics could not be made; the message says what to look at."""


class TopicsSettings(KafkaSettings, env_prefix="EARSHOT_TOPICS_"):
    """How the topics are made."""

    partitions: int = Field(4, ge=1, le=10_000, description="Partitions of each topic: the most workers at once.")
    replication: int = Field(1, ge=1, le=100, description="Copies that the cluster keeps of each record.")


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of a broker after `create_topics`."""

    created: list[str]
    """Those that were missing."""
    partitions: dict[str, int]
    """Partitions of each topic, as it is: an existing one may have another number than was asked for."""
    replication: dict[str, int]
    """Copies of each topic, likewise: the fewest that any of its partitions has."""


def create_topics(
    bootstrap_servers: str,
    *,
    partitions: int = 4,
    replication: int = 1,
    topics: tuple[Topic, ...] = TOPICS,
    wait_s: float = 10.0,
) -> Topics:
    """Create those of `topics` that are missing, and return when they are ready; existing ones are left as they are.

    `partitions` bounds how many workers share the load. Raises TopicsError where no broker answers within `wait_s`, or
    one refuses.
    """
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    try:
        admin = KafkaAdminClient(
            bootstrap_servers=bootstrap_servers.split(","),
            bootstrap_timeout_ms=round(1000 * wait_s),
            client_id="earshot-topics",
        )
    except KafkaError as error:
        raise TopicsError(f"no Kafka broker answered at {bootstrap_servers} in {wait_s:g} s; is it running?") from error
    wanted = {
        topic.name: {"num_partitions": partitions, "replication_factor": replication, "configs": dict(topic.config)}
        for topic in topics
    }
    try:
        answers = admin.create_topics(wanted, raise_errors=False)["topics"]
        refusals = [answer for answer in answers if answer["error_code"] not in {0, _EXISTS}]
        if refusals:
            raise TopicsError(_told(bootstrap_servers, refusals))
        admin.wait_for_topics(list(wanted))
        described = admin.describe_topics(list(wanted))
    except KafkaError as error:
        raise TopicsError(f"the broker at {bootstrap_servers} did not make the topics: {error}") from error
    finally:
        admin.close()
    return Topics(
        created=[answer["name"] for answer in answers if answer["error_code"] == 0],
        partitions={topic["name"]: len(topic["partitions"]) for topic in described},
        replication={
            topic["name"]: min(len(partition["replica_nodes"]) for partition in topic["partitions"])
            for topic in described
        },
    )


def _told(bootstrap_servers: str, refusals: list[dict[str, Any]]) -> str:
    """What the broker said to each topic that it did not make, in its own words."""
    reasons = [f"{answer['name']}: {answer['error_message'] or answer['error_code']}" for answer in refusals]
    return "\n  ".join([f"the broker at {bootstrap_servers} refused", *reasons])
