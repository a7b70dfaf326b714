"""What a test finds on the broker's topic of segments."""

from __future__ import annotations

import time

from kafka import KafkaConsumer

from earshot.segments import Segment
from earshot.topics import SEGMENTS


def first_segments(bootstrap_servers: str, key: bytes, wait_s: float) -> list[Segment]:
    """The segments under `key` in the first batch that has any; none where there was none in `wait_s` seconds."""
    consumer = KafkaConsumer(SEGMENTS, bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest")
    found: list[Segment] = []
    give_up_at = time.monotonic() + wait_s
    while not found and time.monotonic() < give_up_at:
        for records in consumer.poll(timeout_ms=200).values():
            found += [Segment.from_record(one.key, one.value, one.headers) for one in records if one.key == key]
    consumer.close()
    return found
