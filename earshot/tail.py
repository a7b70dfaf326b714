"""`earshot labels`: prints the labels topic as it grows."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from earshot.command import fail
from earshot.labels import InvalidLabel, Label
from earshot.logs import get_log
from earshot.settings import KafkaSettings
from earshot.topics import LABELS

if TYPE_CHECKING:
    from collections.abc import Iterator

log = get_log(__name__)


class LabelsUnavailable(RuntimeError):
    """The labels topic cannot be read; the message says what to look at."""


class TailSettings(KafkaSettings, env_prefix="EARSHOT_LABELS_"):
    """What to print of the labels topic."""

    since: Literal["now", "beginning"] = Field("now", description="Print new labels only, or all that Kafka has kept.")
    device: str = Field("", description="Print this device's labels only.")
    json_lines: bool = Field(default=False, description="Print each label as the JSON that it is, one a line.")


def labels(settings: TailSettings) -> Iterator[Label]:
    """Labels as they come, for ever; records that are not labels are logged and passed over.

    Raises LabelsUnavailable where no broker answers.
    """
    from kafka import KafkaConsumer
    from kafka.errors import KafkaError

    try:
        consumer = KafkaConsumer(
            LABELS,
            bootstrap_servers=settings.bootstrap_servers.split(","),
            auto_offset_reset="earliest" if settings.since == "beginning" else "latest",
        )
    except KafkaError as error:
        raise LabelsUnavailable(f"no Kafka broker answers at {settings.bootstrap_servers}; is it running?") from error
    try:
        for record in consumer:
            try:
                label = Label.from_record(record.value)
            except InvalidLabel as error:
                log.warning("label skipped", offset=record.offset, partition=record.partition, reason=str(error))
                continue
            if settings.device in ("", label.device_id):
                yield label
    finally:
        consumer.close()


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


def _line(label: Label) -> str:
    time = label.start.astimezone().isoformat(sep=" ", timespec="milliseconds")
    model = f"{label.model_name}/{label.model_version}"
    return f"{time}  {label.device_id:<16} {label.label:<18} {label.score:.3f}  {model}"
