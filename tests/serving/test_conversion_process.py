from __future__ import annotations

import errno
import sys
import threading
from pathlib import Path

import pytest
import tensorflow as tf

from serving.engines import conversion, conversion_process, openvino_export
from serving.engines.conversion import NO_ROOM, UNSUPPORTED, Unsupported
from serving.failures import CannotLoadNow


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Unsupported("of another kind"), UNSUPPORTED),
        (MemoryError(), NO_ROOM),
        (CannotLoadNow("no room"), NO_ROOM),
        (OSError(errno.ENOSPC, "No space left on device"), NO_ROOM),
        (tf.errors.ResourceExhaustedError(None, None, "out of memory"), NO_ROOM),
    ],
)
def test_the_exit_status_and_the_last_line_say_why_it_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, status: int
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(openvino_export, "_export", fails)
    monkeypatch.setattr(conversion_process, "_end_with", lambda _: None)
    assert conversion_process.main(Path("1"), Path("folder"), 1) == status
    assert capsys.readouterr().err.strip()


def test_what_else_the_system_refuses_is_no_lack_of_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(openvino_export, "_export", fails)
    monkeypatch.setattr(conversion_process, "_end_with", lambda _: None)
    with pytest.raises(PermissionError):
        conversion_process.main(Path("1"), Path("folder"), 1)


def test_it_imports_no_keras(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    imports = "import sys, serving.engines.openvino_export; sys.exit('keras' in sys.modules)"
    monkeypatch.setattr(conversion, "module_command", lambda *_: [sys.executable, "-c", imports])
    conversion._run(tmp_path, tmp_path, threading.Event())
