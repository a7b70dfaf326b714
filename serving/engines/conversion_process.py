"""The process that converts a version for OpenVINO: its exit status says what came of it, and it ends with its parent.

Run by `serving.engines.conversion`: python -m serving.engines.conversion_process VERSION_DIR FOLDER PARENT
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from pathlib import Path

from serving.engines.conversion import NO_ROOM, UNSUPPORTED, Unsupported
from serving.failures import CannotLoadNow

_LOOK_S = 0.5
"""Seconds between two looks at the parent."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM)


def main(version_dir: Path, folder: Path, parent: int) -> int:
    """Convert the version into `folder`, and return the exit status; parent: the process that waits for it."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        from serving.engines.openvino_export import export  # seconds, in which the parent may end

        export(version_dir, folder)
    except Unsupported as error:
        return _failed(UNSUPPORTED, str(error))
    except (CannotLoadNow, MemoryError) as error:
        return _failed(NO_ROOM, str(error) or "no memory")
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        return _failed(NO_ROOM, str(error))
    return 0


def _failed(status: int, why: str) -> int:
    sys.stderr.write(f"{why}\n")
    return status


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, whatever it is doing."""
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(1)


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
