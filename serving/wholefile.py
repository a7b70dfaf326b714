"""Files that appear whole or not at all, however many processes write the same one at once."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write into, that becomes `path` where the block ends without an error, and else is gone."""
    # Not the process id: in containers that share a folder, every process may have the same one. Nor the file's own
    # name, which may be as long as names can be.
    unfinished = path.with_name(f".{uuid.uuid4().hex}")
    try:
        with unfinished.open("xb") as file:
            yield file
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
