"""A segment of sound and its form on the `segments` topic: raw PCM, with CloudEvents 1.0 headers (binary mode).

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, NamedTuple, Self, cast, get_args

import numpy as np

from earshot.audio import SAMPLE_RATE_HZ, SEGMENT_BYTES, SEGMENT_S, fit_segment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

SEGMENT_TYPE = "earshot.segment.v1"
CONTENT_TYPE = f"audio/L16; rate={SAMPLE_RATE_HZ}; channels=1; endian=little"

Trigger = Literal["vad", "energy", "vad+energy", "continued"]
"""What opened a segment; `continued` is the next piece of a sound that went on."""

Headers = list[tuple[str, bytes]]

LONGEST_ID = 256
"""Characters that a device or segment id may have: both are in the label, which must fit its topic."""


_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""Between these a time is one in every time zone; a program that has none may write year 1."""


class InvalidSegment(ValueError):
    """A record does not keep to the contract of the `segments` topic; the message says in what."""


class Record(NamedTuple):
    """A Kafka record, before it is sent or after it was received."""

    key: bytes
    value: bytes
    headers: Headers


@dataclass(frozen=True, slots=True)
class Segment:
    """Three seconds of sound from one device."""

    segment_id: str
    """UUID, made once when the segment is cut."""
    device_id: str
    """Name of the microphone host."""
    sequence: int
    """Number of the segment since the agent started, from 0."""
    start: datetime
    """When its first sample was heard; aware, UTC."""
    trigger: Trigger
    """What opened it."""
    level_dbfs: float
    """Decibels relative to full scale, root mean square over the segment."""
    pcm: NDArray[np.int16]
    """int16 [48000]."""

    @property
    def duration_s(self) -> float:
        """Seconds."""
        return SEGMENT_S

    def to_record(self) -> Record:
        """The record for the `segments` topic; the device is the key, so a device's segments keep their order."""
        headers = {
            "ce_specversion": "1.0",
            "ce_id": self.segment_id,
            "ce_source": f"/earshot/devices/{self.device_id}",
            "ce_type": SEGMENT_TYPE,
            "ce_time": self.start.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "content-type": CONTENT_TYPE,
            "earshot_sequence": str(self.sequence),
            "earshot_trigger": self.trigger,
            "earshot_level_dbfs": f"{self.level_dbfs:.2f}",
        }
        value = fit_segment(self.pcm).astype("<i2", copy=False).tobytes()
        return Record(self.device_id.encode(), value, [(name, text.encode()) for name, text in headers.items()])

    @classmethod
    def from_record(cls, key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes]]) -> Self:
        """The segment of a record; raises InvalidSegment where the record breaks the contract."""
        fields = _decode(headers)
        _expect(fields, "ce_specversion", "1.0")
        _expect(fields, "ce_type", SEGMENT_TYPE)
        _expect(fields, "content-type", CONTENT_TYPE)
        if value is None or len(value) != SEGMENT_BYTES:
            raise InvalidSegment(f"value has {len(value or b'')} bytes, a segment has {SEGMENT_BYTES}")
        if not key:
            raise InvalidSegment("key is missing, it is the device id")
        for name, text in (("key", key.decode(errors="replace")), ("header ce_id", _get(fields, "ce_id"))):
            if any(unicodedata.category(one) == "Cc" for one in text):
                raise InvalidSegment(f"{name} {text!r} has a control character")
        if len(key) > LONGEST_ID or len(_get(fields, "ce_id")) > LONGEST_ID:
            raise InvalidSegment(f"key or header ce_id is longer than {LONGEST_ID}")
        trigger = _get(fields, "earshot_trigger")
        if trigger not in get_args(Trigger):
            raise InvalidSegment(f"header earshot_trigger is {trigger!r}, not one of {', '.join(get_args(Trigger))}")
        try:
            return cls(
                segment_id=_get(fields, "ce_id"),
                device_id=key.decode(),
                sequence=int(_get(fields, "earshot_sequence")),
                start=_time(_get(fields, "ce_time")),
                trigger=cast("Trigger", trigger),
                level_dbfs=_finite(_get(fields, "earshot_level_dbfs")),
                pcm=np.frombuffer(value, dtype="<i2"),
            )
        except InvalidSegment:
            raise
        except (ValueError, OverflowError) as error:
            raise InvalidSegment(f"a header has no valid value: {error}") from error


def _decode(headers: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    try:
        return {name: value.decode() for name, value in headers if value is not None}
    except UnicodeDecodeError as error:
        raise InvalidSegment(f"a header is not UTF-8: {error}") from error


def _get(fields: dict[str, str], name: str) -> str:
    value = fields.get(name)
    if not value:
        raise InvalidSegment(f"header {name} is missing")
    return value


def _expect(fields: dict[str, str], name: str, expected: str) -> None:
    value = _get(fields, name)
    if value != expected:
        raise InvalidSegment(f"header {name} is {value!r}, not {expected!r}")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text!r} is not a finite number")
    return number


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise InvalidSegment(f"header ce_time is {text!r}, without a time zone")
    if not _EARLIEST <= time < _LATEST:
        raise InvalidSegment(f"header ce_time is {text!r}, a time that no clock shows")
    return time.astimezone(UTC)
