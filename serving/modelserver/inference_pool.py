"""The threads that run models: so many requests at once, so many waiting, and the rest refused at once."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

from serving.modelserver.errors import unavailable
from serving.modelserver.running import run_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from serving.modelserver.loaded import Loaded


def ready_threads(count: int, name: str) -> ThreadPoolExecutor:
    """So many threads, all of them started: later, when memory is short, there may be none to be had."""
    pool = ThreadPoolExecutor(count, thread_name_prefix=name)
    all_there = threading.Barrier(count + 1)
    try:
        for _ in range(count):
            pool.submit(all_there.wait)
        all_there.wait()
    except BaseException:
        all_there.abort()  # those that are there would wait for ever, and the process for them
        pool.shutdown(cancel_futures=True)
        raise
    return pool


class Runner(Protocol):
    """Runs loaded versions, in threads of its own."""

    async def run(
        self, loaded: Loaded, signature: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> dict[str, NDArray[Any]]:
        """The outputs asked for, by name; raises ServingError."""
        ...

    def close(self) -> None:
        """Drop what waits, and wait for what runs."""
        ...


class InferencePool:
    """Runs each request by itself: a bounded pool with a bounded queue (a `Runner`)."""

    def __init__(self, concurrency: int, queue: int) -> None:
        self._executor = ready_threads(concurrency, "inference")
        self._places = threading.BoundedSemaphore(concurrency + queue)
        self._capacity = concurrency + queue

    async def run(
        self, loaded: Loaded, signature: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> dict[str, NDArray[Any]]:
        """The outputs asked for, by name. A request given up while it waits is not run.

        Raises ServingError, UNAVAILABLE at once where every place is taken.
        """
        if not self._places.acquire(blocking=False):
            raise unavailable(f"{self._capacity} requests are running or waiting already; try again later")
        future = self._executor.submit(run_model, loaded, signature, inputs, outputs)
        future.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Drop what waits, and wait for what runs."""
        self._executor.shutdown(cancel_futures=True)
