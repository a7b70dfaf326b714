from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from training.data.ahead import ahead


def test_results_come_in_order_whichever_is_ready_first() -> None:
    second = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert second.wait(10)
        elif item == 1:
            second.set()
        return item * item

    with ThreadPoolExecutor(2) as pool:
        assert list(ahead(pool, range(5), work)) == [(item, item * item) for item in range(5)]


def test_no_more_is_begun_than_was_asked_for() -> None:
    begun: list[int] = []
    with ThreadPoolExecutor(8) as pool:
        for item, _ in ahead(pool, range(20), begun.append, most=3):
            assert max(begun) <= item + 3


def test_an_error_comes_with_the_item_that_made_it() -> None:
    with ThreadPoolExecutor(2) as pool:
        results = ahead(pool, [1, 0], lambda item: 1 // item)
        assert next(results) == (1, 1)
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_after_an_error_those_that_wait_for_a_thread_are_not_begun() -> None:
    begun: list[int] = []
    go_on = threading.Event()

    def work(item: int) -> None:
        begun.append(item)
        if item == 0:
            raise ZeroDivisionError
        assert go_on.wait(10)

    with ThreadPoolExecutor(2) as pool:
        results = ahead(pool, range(8), work, most=5)
        with pytest.raises(ZeroDivisionError):
            next(results)
        go_on.set()
    assert max(begun) <= 2, "one for each thread, and one that takes the place of that which failed"
