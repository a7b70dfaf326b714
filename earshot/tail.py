"""`earshot labels`: prints the labels topic as it grows."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from earshot.command import fail
from earshot.logs import get_log
from earshot.settings import KafkaSettings
from earshot.topics import LABELS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kafka import KafkaConsumer
    from kafka.consumer.fetcher import ConsumerRecord

    from earshot.labels import Label

log = get_log(__name__)


class LabelsUnavailable(RuntimeError):
    """The labels topic cannot be read; the message says what to look at."""


class TailSettings(KafkaSettings, env_prefix="EARSHOT_LABELS_"):
    """What to print of the labels topic."""

    since: Literal["now", "beginning"] = Field("now", description="Print new labels only, or all that Kafka has kept.")
    device: str = Field("", description="Print this device's labels only.")
    json_lines: bool = Field(default=False, description="Print each label as the JSON that it is, one a line.")


def labels(settings: TailSettings, wait_s: float = 10.0) -> Iterator[Label]:
    """Labels as they come, for ever; records that are not labels are logged and passed over.

    Raises LabelsUnavailable where no broker answers within `wait_s`, or it has no labels topic.
    """
    from kafka import KafkaConsumer
    from kafka.errors import KafkaError

    from earshot.labels import InvalidLabel, Label

    servers = settings.bootstrap_servers
    try:
        consumer = KafkaConsumer(
            LABELS,
            bootstrap_servers=servers.split(","),
            bootstrap_timeout_ms=round(1000 * wait_s),
            auto_offset_reset="earliest" if settings.since == "beginning" else "latest",
            allow_auto_create_topics=False,
            reconnect_backoff_max_ms=2_000,  # 30 s by default: labels would come so much after the broker
        )
    except KafkaError as error:
        raise LabelsUnavailable(f"no Kafka broker answered at {servers} in {wait_s:g} s; is it running?") from error
    try:
        if not consumer.partitions_for_topic(LABELS):
            raise LabelsUnavailable(
                f"{servers} has no topic {LABELS}; `earshot topics --bootstrap-servers {servers}` makes it"
            )
        for record in _records(consumer, servers):
            try:
                label = Label.from_record(record.value)
            except InvalidLabel as error:
                log.warning("label skipped", offset=record.offset, partition=record.partition, reason=str(error))
                continue
            if settings.device in ("", label.device_id):
                yield label
    finally:
        consumer.close()


def _records(consumer: KafkaConsumer, servers: str) -> Iterator[ConsumerRecord]:
    """Records as they come; an outage is logged, as is its end."""
    away = False
    while True:
        batches = consumer.poll(timeout_ms=1000)
        lost = not any(group.get("connection-count") for group in consumer.metrics().values())
        if lost != away:
            away = lost
            if away:
                log.warning("the broker is away, waiting for it", bootstrap_servers=servers)
            else:
                log.info("the broker is back", bootstrap_servers=servers)
        for records in batches.values():
            yield from records


def run(settings: TailSettings) -> None:
    """Print labels as they come, until Ctrl-C."""
    try:
        for label in labels(settings):
            sys.stdout.write(f"{label.model_dump_json() if settings.json_lines else _line(label)}\n")
            sys.stdout.flush()
    except LabelsUnavailable as error:
        raise fail(error) from None
    except KeyboardInterrupt:
        return
    except BrokenPipeError:  # whoever read the output, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the last flush complains


def _line(label: Label) -> str:
    time = label.start.astimezone().isoformat(sep=" ", timespec="milliseconds")
    model = f"{label.model_name}/{label.model_version}"
    return f"{time}  {label.device_id:<16} {label.label:<18} {label.score:.3f}  {model}"
