"""Runs a command that the kernel kills when the process that started it ends, however it ends. Linux only.

Used as a script, `leash.py PARENT_PID COMMAND...`: it ties itself to its parent and then becomes the command, so no
code runs between fork and exec of a parent that has threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become the command of the arguments, on the leash."""
    parent, *command = sys.argv[1:]
    if ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL)) != 0:
        sys.exit("prctl(PR_SET_PDEATHSIG) was refused")
    if os.getppid() != int(parent):  # it ended before the leash was on
        sys.exit("the parent process is gone")
    try:
        os.execvp(command[0], command)  # noqa: S606
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
