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
        "message": str(error),
        "stacktrace": "".join(traceback.format_exception(error)),
        "topic": topic,
        "partition": str(partition),
        "offset": str(offset),
    }
    # A message may hold what UTF-8 cannot: a file name or a header, as Python kept it.
    added = [(f"{ERROR_PREFIX}{name}", text.encode(errors="backslashreplace")) for name, text in failure.items()]
    return Record(key or b"", value or b"", [*headers, *added, (STAGE_HEADER, stage.encode())])
