"""Dead letters: a record that could not be processed, as it was, with headers that say where and why.

Header names are those of Kafka Streams' dead-letter queue (KIP-1034), plus the stage that failed.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Literal

from earshot.segments import Record

if TYPE_CHECKING:
    from collections.abc import Iterable

Stage = Literal["decode", "spectrogram", "predict"]
"""Where a segment failed."""

ERROR_PREFIX = "__streams.errors."
STAGE_HEADER = "earshot_stage"
VALUE_DROPPED_HEADER = "earshot_value_dropped"
"""On a dead letter too large for its topic: how many bytes its value had."""
HEADERS_DROPPED_HEADER = "earshot_headers_dropped"
"""The same of its key and headers, where the letter was too large without its value."""

LONGEST_TEXT = 4096
"""Characters of the message and of the stack trace that are kept: both may quote the record."""


def dead_letter(
    key: bytes | None,
    value: bytes | None,
    headers: Iterable[tuple[str, bytes]],
    *,
    error: BaseException,
    stage: Stage,
    topic: str,
    partition: int,
    offset: int,
) -> Record:
    """The dead letter for a record of `topic`: key, value and headers unchanged, the failure in further headers.

    A null key or value becomes an empty one.
    """
    failure = {
        "exception": f"{type(error).__module__}.{type(error).__qualname__}",
        "message": str(error)[:LONGEST_TEXT],
        "stacktrace": "".join(traceback.format_exception(error))[-LONGEST_TEXT:],
        "topic": topic,
        "partition": str(partition),
        "offset": str(offset),
    }
    # A message may hold what UTF-8 cannot: a file name or a header, as Python kept it.
    added = [(f"{ERROR_PREFIX}{name}", text.encode(errors="backslashreplace")) for name, text in failure.items()]
    return Record(key or b"", value or b"", [*headers, *added, (STAGE_HEADER, stage.encode())])


def lessened(letter: Record) -> Record | None:
    """A smaller form of a dead letter that is too large for its topic, None where it cannot be smaller.

    First without the value, then without key and headers of the record too; the offset still tells where it is.
    """
    if letter.value:
        dropped = (VALUE_DROPPED_HEADER, str(len(letter.value)).encode())
        return Record(letter.key, b"", [*letter.headers, dropped])
    names = [name for name, _ in letter.headers]
    failure = len(names) - 1 - names[::-1].index(f"{ERROR_PREFIX}exception")  # its first header, after the record's own
    if failure == 0 and not letter.key:
        return None
    size = len(letter.key) + sum(len(name.encode()) + len(text or b"") for name, text in letter.headers[:failure])
    return Record(b"", b"", [*letter.headers[failure:], (HEADERS_DROPPED_HEADER, str(size).encode())])
