"""A loaded version, and the leases that keep it open while requests run in it."""

from __future__ import annotations

import ctypes
import gc
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from earshot.logs import get_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from serving.engines.engine import Engine

log = get_log(__name__)


class Retired(Exception):
    """A version is asked for after it was unloaded."""


class Loaded:
    """A version that is served. Who runs its engine holds a lease, so that it is closed behind the last of them."""

    def __init__(self, version: int, engine: Engine, load_s: float, folder: Path | None = None) -> None:
        """load_s: seconds from opening its files to AVAILABLE, warm-up included. folder: where these are."""
        self.version = version
        self.folder = folder
        self.engine = engine
        self.load_s = load_s
        self._leases = 0
        self._when_free: Callable[[], None] | None = None
        self._lock = threading.Lock()

    @contextmanager
    def lease(self) -> Iterator[Engine]:
        """The engine, which stays open within; raises Retired where it is closed, or is about to be."""
        with self._lock:
            if self._when_free and not self._leases:
                raise Retired
            self._leases += 1
        try:
            yield self.engine
        finally:
            with self._lock:
                self._leases -= 1
                free = self._when_free if not self._leases else None
            if free:  # mostly from a request's thread or the event loop, which closing must not hold up
                try:
                    threading.Thread(target=free, name="unload").start()
                except RuntimeError:  # there is no thread to be had: held up for a moment is better than never closed
                    free()

    def retire(self, closed: Callable[[], None]) -> None:
        """Close the engine when the last lease has ended, and then call `closed`."""

        def close() -> None:
            try:
                self.engine.close()
            except Exception:
                log.exception("engine could not be closed", version=self.version)
            del self.engine  # else what it holds, as its weights, were kept until the next version is unloaded
            _give_back()
            closed()

        with self._lock:
            self._when_free = close
            free = not self._leases
        if free:
            close()


def _give_back() -> None:
    """Free what is only held by references in a circle, and give free memory back to the system.

    glibc keeps free pages that lie between others; it is asked for each version, not for each request.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:  # not on systems that have another C library
        trim(ctypes.c_size_t(0))
