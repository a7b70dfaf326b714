"""TFRecord files, without TensorFlow: records, each with its length before it and checksums of both.

The format is TensorFlow's: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from crc32c import crc32c

from serving.failures import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_LENGTH = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")
_MASK = 0xA282EAD8


class BrokenRecords(ValueError):
    """A file is not whole, or no TFRecord file; the message says where."""

    error_code = ErrorCode.DATA_LOSS


def read_records(path: Path) -> list[bytes]:
    """The records of a file; raises BrokenRecords, or OSError where it cannot be read."""
    data, at, records = path.read_bytes(), 0, []

    def taken(size: int) -> bytes:
        nonlocal at
        part, checksum = data[at : at + size], data[at + size : at + size + _CHECKSUM.size]
        if len(checksum) < _CHECKSUM.size or _CHECKSUM.unpack(checksum)[0] != _masked(part):
            raise BrokenRecords(f"{path} is broken at byte {at}")
        at += size + _CHECKSUM.size
        return part

    while at < len(data):
        records.append(taken(_LENGTH.unpack(taken(_LENGTH.size))[0]))
    return records


def write_records(path: Path, records: Iterable[bytes]) -> None:
    """Write a file of these records."""
    with path.open("wb") as file:
        for record in records:
            for part in (_LENGTH.pack(len(record)), record):
                file.write(part + _CHECKSUM.pack(_masked(part)))


def _masked(data: bytes) -> int:
    """A checksum that is no checksum of a file which holds it, as the format wants it."""
    checksum = crc32c(data)
    return ((checksum >> 15 | checksum << 17) + _MASK) & 0xFFFFFFFF
