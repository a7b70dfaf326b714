"""Modules of the project as processes of their own."""

from __future__ import annotations

import os
import signal
import sys


def module_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module, with `module_environment`: none of the working folder's own by the same name."""
    return [sys.executable, "-P", "-m", module, *arguments]


def module_environment() -> dict[str, str]:
    """This process's environment, in which that command finds what this process would import."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TF_CPP_MIN_LOG_LEVEL": "3"}


def signal_name(number: int) -> str:
    """What the signal is called that ended a process, as `SIGKILL`."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
