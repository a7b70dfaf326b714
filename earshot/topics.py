"""The three topics and how each is kept. Earshot never relies on a broker creating topics by itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SEGMENTS = "segments"
LABELS = "labels"
DEAD_LETTERS = "segments.dlq"

# A record's timestamp is when the broker appended it: the time of the sound itself is in the message.
_APPENDED = {"cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime"}
_MINUTE_MS = 60_000
_HOUR_MS = 60 * _MINUTE_MS
_DAY_MS = 24 * _HOUR_MS


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic's name and configuration."""

    name: str
    config: Mapping[str, str] = field(default_factory=dict)
    """Kafka's own names and values."""


TOPICS = (
    # 96 KB a record: an hour of one always-on microphone is 115 MB. Audio is already dense, so it is not compressed.
    # Kafka deletes whole files, so a new one is begun often: sound is gone soon after its hour.
    Topic(
        SEGMENTS,
        {
            **_APPENDED,
            "retention.ms": str(_HOUR_MS),
            "segment.ms": str(10 * _MINUTE_MS),
            "compression.type": "producer",
        },
    ),
    # Every label is an event that consumers count, so none is compacted away.
    Topic(LABELS, {**_APPENDED, "retention.ms": str(7 * _DAY_MS), "segment.ms": str(_DAY_MS)}),
    Topic(DEAD_LETTERS, {**_APPENDED, "retention.ms": str(7 * _DAY_MS), "segment.ms": str(_DAY_MS)}),
)
