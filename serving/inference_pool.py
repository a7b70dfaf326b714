"""The threads that run models: so many requests at once, so many waiting, and the rest refused at once."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from serving.errors import unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


class InferencePool:
    """A bounded pool with a bounded queue."""

    def __init__(self, concurrency: int, queue: int) -> None:
        self._executor = ThreadPoolExecutor(concurrency, thread_name_prefix="inference")
        self._places = threading.BoundedSemaphore(concurrency + queue)
        self._capacity = concurrency + queue

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `work`, run in a thread. A request given up while it waits is not run.

        Raises ServingError (UNAVAILABLE) at once where every place is taken.
        """
        if not self._places.acquire(blocking=False):
            raise unavailable(f"{self._capacity} requests are running or waiting already; try again later")
        future = self._executor.submit(work, *args, **kwargs)
        future.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Drop what waits, and wait for what runs."""
        self._executor.shutdown(cancel_futures=True)
