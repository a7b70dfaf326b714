"""The three topics and how each is kept. Earshot never relies on a broker creating topics by itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SEGMENTS = "segments"
LABELS = "labels"
DEAD_LETTERS = "segments.dlq"

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic's name and configuration."""

    name: str
    config: Mapping[str, str] = field(default_factory=dict)
    """Kafka's own names and values."""


TOPICS = (
    # 96 KB a record: an hour of one always-on microphone is 115 MB. Audio is already dense, so it is not compressed.
    Topic(SEGMENTS, {"retention.ms": str(_HOUR_MS), "cleanup.policy": "delete", "compression.type": "producer"}),
    # Every label is an event that consumers count, so none is compacted away.
    Topic(LABELS, {"retention.ms": str(7 * _DAY_MS), "cleanup.policy": "delete"}),
    Topic(DEAD_LETTERS, {"retention.ms": str(7 * _DAY_MS), "cleanup.policy": "delete"}),
)
