"""Creates the topics on a broker."""

from __future__ import annotations

from pydantic import Field

from earshot.settings import KafkaSettings
from earshot.topics import TOPICS, Topic


class TopicsError(RuntimeError):
    """The topics could not be made; the message says what to look at."""


class TopicsSettings(KafkaSettings, env_prefix="EARSHOT_TOPICS_"):
    """How the topics are made."""

    partitions: int = Field(4, ge=1, le=10_000, description="Partitions of each topic: the most workers at once.")
    replication: int = Field(1, ge=1, le=100, description="Copies that the cluster keeps of each record.")


def create_topics(
    bootstrap_servers: str,
    *,
    partitions: int = 4,
    replication: int = 1,
    topics: tuple[Topic, ...] = TOPICS,
) -> list[str]:
    """Create those of `topics` that are missing, and return their names; existing ones are left as they are.

    `partitions` bounds how many workers share the load. Raises TopicsError where the broker does not answer or refuses.
    """
    from kafka import KafkaAdminClient
    from kafka.admin import NewTopic
    from kafka.errors import KafkaError, TopicAlreadyExistsError

    try:
        admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers.split(","), client_id="earshot-topics")
    except KafkaError as error:
        raise TopicsError(f"no Kafka broker answers at {bootstrap_servers} ({error}); is it running?") from error
    created = []
    try:
        for topic in topics:
            new = NewTopic(
                name=topic.name,
                num_partitions=partitions,
                replication_factor=replication,
                topic_configs=dict(topic.config),
            )
            try:
                admin.create_topics([new])
            except TopicAlreadyExistsError:
                continue
            created.append(topic.name)
    except KafkaError as error:
        raise TopicsError(f"the broker at {bootstrap_servers} refused to create {topic.name}: {error}") from error
    finally:
        admin.close()
    return created
