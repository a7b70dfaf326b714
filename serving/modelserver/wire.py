"""Protobuf's wire format, as far as a message has to be looked through without being parsed.

Source: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types."""
_SIZES = {FIXED64: 8, FIXED32: 4}
_MOST_FIELDS = 64


class NotReadable(ValueError):
    """Bytes are no message that is read so: they are broken, or written in a way that is left to protobuf."""


class Field(NamedTuple):
    """One field of a message."""

    number: int
    wire_type: int
    whole: memoryview
    """All of it, the tag included."""
    value: memoryview
    """Its value alone, without the length."""


def fields(message: memoryview) -> Iterator[Field]:
    """The fields of a message, as they come; raises NotReadable."""
    at = 0
    for _ in range(_MOST_FIELDS + 1):
        if at == len(message):
            return
        begin = at
        tag, at = varint(message, at)
        wire_type = tag & 7
        if wire_type == BYTES:
            size, at = varint(message, at)
        elif wire_type == VARINT:
            size = varint(message, at)[1] - at
        elif wire_type in _SIZES:
            size = _SIZES[wire_type]
        else:
            raise NotReadable(f"wire type {wire_type}")
        end = at + size
        if end > len(message):
            raise NotReadable("a field goes on behind the end")
        yield Field(tag >> 3, wire_type, message[begin:end], message[at:end])
        at = end
    raise NotReadable(f"more than {_MOST_FIELDS} fields")


def varint(raw: bytes | memoryview, at: int) -> tuple[int, int]:
    """The number of up to five bytes that is written at `at`, and where the next one is; raises NotReadable.

    Each byte has seven bits of it, the lowest first.
    """
    number = 0
    for shift in range(0, 35, 7):
        if at >= len(raw):
            break
        number |= (raw[at] & 0x7F) << shift
        at += 1
        if raw[at - 1] < 0x80:
            return number, at
    raise NotReadable("a number does not end")
