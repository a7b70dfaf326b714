"""Child processes of the local stack: one log file each, stopped for certain, and never outliving their owner.

A child has a session of its own, so Ctrl-C in the terminal reaches the owner alone, who then stops its children in
order. On Linux the kernel kills a child whose owner ends without doing so, even by SIGKILL.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_LEASH = Path(__file__).with_name("leash.py")


@cache
def _starts() -> SimpleQueue[tuple[Future[None], Callable[[], None]]]:
    """The queue of the thread that starts all children, and lives as long as the process.

    The kernel ties a child to the thread that forked it, not to the process: one that a short-lived thread started
    would die with that thread. A ThreadPoolExecutor will not do: nobody ends its thread where Ctrl-C comes while that
    begins, and the process waits for it for ever.
    """
    starts: SimpleQueue[tuple[Future[None], Callable[[], None]]] = SimpleQueue()
    threading.Thread(target=_start_each, args=(starts,), name="child-starter", daemon=True).start()
    return starts


def _start_each(starts: SimpleQueue[tuple[Future[None], Callable[[], None]]]) -> None:
    while True:
        started, start = starts.get()
        if started.set_running_or_notify_cancel():
            try:
                started.set_result(start())
            except BaseException as error:
                started.set_exception(error)


class Child:
    """A process that writes all its output to one log file."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        env: Mapping[str, str] | None,
        log_path: Path,
        *,
        background: bool = False,
    ) -> None:
        """Describe the process; `env` None is the owner's, and a `background` process does outlive its owner."""
        self.name = name
        self.log_path = log_path
        self._argv = [str(word) for word in argv]
        self._env = env
        self._background = background
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id; None before the start."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process; its log file begins anew. OSError where the log file cannot be written.

        A command that cannot be run ends at once with status 1, and its log says why.
        """
        if self._process is not None:
            raise RuntimeError(f"{self.name} was started before")
        starting: Future[None] = Future()
        starts = _starts()
        try:
            starts.put((starting, self._spawn))
            starting.result()
        except BaseException:  # Ctrl-C in between: the thread goes on and would leave a process that nobody stops
            if not starting.cancel() and starting.exception() is None:
                self.stop(grace_s=0.0)
            raise

    def _spawn(self) -> None:
        leash: list[str] = []
        if sys.platform == "linux" and not self._background:
            leash = [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid())]
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [*leash, *self._argv],
                env=None if self._env is None else dict(self._env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def poll(self) -> int | None:
        """Exit status, negative where a signal ended it; None while it runs or before it was started."""
        return self._process.poll() if self._process else None

    def wait(self) -> int:
        """Exit status, negative where a signal ended it, once it has ended."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process.wait()

    def stop(self, grace_s: float = 10.0) -> int | None:
        """End the process: SIGTERM, and after `grace_s` SIGKILL to it and all it started. Its exit status.

        Does nothing to a process that has ended, or never began (None).
        """
        process = self._process
        if process is None or process.poll() is not None:
            return self.poll()
        process.terminate()
        try:
            return process.wait(grace_s)
        except BaseException as interruption:  # a second Ctrl-C ends the patience, not the duty
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if not isinstance(interruption, subprocess.TimeoutExpired):
                raise
        return process.returncode

    def tail(self, lines: int = 20) -> list[str]:
        """The last lines of its log."""
        if not self.log_path.is_file():
            return []
        return self.log_path.read_text(errors="replace").splitlines()[-lines:]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def run_to_end(name: str, argv: Sequence[str | Path], env: Mapping[str, str] | None = None) -> tuple[int, list[str]]:
    """Run a process to its end: its exit status and the lines it printed. What interrupts the wait ends the process.

    `subprocess.run` does not promise the latter: Ctrl-C in the midst of its fork leaves a process that nobody knows.
    """
    with tempfile.TemporaryFile() as output:  # it has no name, so there is none that Ctrl-C could leave behind
        with Child(name, argv, env, Path(f"/dev/fd/{output.fileno()}")) as child:
            status = child.wait()
        output.seek(0)
        return status, output.read().decode(errors="replace").splitlines()
