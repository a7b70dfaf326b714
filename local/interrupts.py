"""What Ctrl-C does to a command that has something to finish."""

from __future__ import annotations

import signal
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Takes Ctrl-C, SIGTERM and a closed terminal over, in the main thread of a command; a context manager.

    At first they raise KeyboardInterrupt; after `defer` they are noted and no more.
    """

    def __init__(self) -> None:
        self.came = False
        """Whether one has come."""
        self._raising = True
        self._before: dict[signal.Signals, Any] = {}

    def defer(self) -> None:
        """From now on one interrupts nothing: whoever does the work asks whether one `came`."""
        self._raising = False

    def _handle(self, _signal: int, _frame: object) -> None:
        self.came = True
        if self._raising:
            self._raising = False  # what the first one has begun to end is not to be cut short by the next
            raise KeyboardInterrupt

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
