"""Running the project's commands as a user does, and seeing what they leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import IO, Self

ROOT = Path(__file__).parent.parent


class Command:
    """`python -m earshot.cli ARGUMENTS` (or another module), with a mark in its environment that its children carry."""

    def __init__(self, *arguments: str, log: Path, module: str = "earshot.cli", **environment: str) -> None:
        self.mark = uuid.uuid4().hex
        self.log = log
        self._output: IO[bytes] = log.open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", module, *arguments],
            cwd=ROOT,
            env={**os.environ, "EARSHOT_TEST_MARK": self.mark, "COLUMNS": "160", **environment},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")

    def wait(self, timeout_s: float) -> int:
        """Its exit status; fails with its output where it runs longer."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout_s} s:\n{self.output}") from None

    def wait_for(self, text: str, timeout_s: float) -> None:
        """Return when it has printed `text`; fails with its output where it does not in time, or ends."""
        deadline = time.monotonic() + timeout_s
        while text not in self.output:
            assert self.process.poll() is None, f"ended before it printed {text!r}:\n{self.output}"
            assert time.monotonic() < deadline, f"did not print {text!r} in {timeout_s} s:\n{self.output}"
            time.sleep(0.1)

    def interrupt(self) -> None:
        """What Ctrl-C sends."""
        self.process.send_signal(signal.SIGINT)

    def left_behind(self) -> list[str]:
        """Command lines of processes that it started, itself included, and that still run."""
        return [line for _, line in self._marked()]

    def close(self) -> None:
        """Kill whatever of it still runs."""
        for pid, _ in self._marked():
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self._output.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _marked(self) -> list[tuple[int, str]]:
        marked = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (folder / "environ").read_bytes():
                    marked.append((int(folder.name), (folder / "cmdline").read_text().replace("\0", " ")))
            except OSError:  # it has ended, or is not ours
                continue
        return marked
