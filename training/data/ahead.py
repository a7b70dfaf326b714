"""Work that is done by threads a little ahead of who takes it, so that memory is bounded however much there is."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future, ThreadPoolExecutor

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    pool: ThreadPoolExecutor, items: Iterable[Item], work: Callable[[Item], Result], most: int = 4
) -> Iterator[tuple[Item, Result]]:
    """Each of `items` with what `work` makes of it, in order; at most `most` are begun that nobody has taken.

    Where one fails, or Ctrl-C comes, those that wait for a thread are not begun.
    """
    begun: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            begun.append((item, pool.submit(work, item)))
            if len(begun) > most:
                first, result = begun.popleft()
                yield first, result.result()
        while begun:
            first, result = begun.popleft()
            yield first, result.result()
    finally:
        for _, result in begun:
            result.cancel()
