"""The pool without batching: how much runs, how much waits, and what is refused."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import grpc
import numpy as np
import pytest

from serving.modelserver.errors import ServingError
from serving.modelserver.inference_pool import InferencePool
from serving.modelserver.loaded import Loaded
from tests.serving.engines import Doubler

X = np.ones((1, 1), np.float32)


def ask_at_once(engine: Doubler, requests: int, pool: InferencePool, give_up: int = 0) -> list[Any]:
    """The answers to so many requests, the engine waiting until all are there and the last `give_up` were cancelled."""

    async def main() -> list[Any]:
        engine.go.clear()
        loaded = Loaded(1, engine, 0.0)
        asked = [asyncio.ensure_future(pool.run(loaded, "", {"x": X}, ["y"])) for _ in range(requests)]
        await asyncio.sleep(0.1)
        for one in asked[requests - give_up :]:
            one.cancel()
        await asyncio.sleep(0)
        engine.go.set()
        answers: list[Any] = await asyncio.gather(*asked, return_exceptions=True)
        return answers

    return asyncio.run(main())


def test_a_full_queue_refuses_at_once_and_the_rest_is_answered() -> None:
    engine = Doubler()
    answers = ask_at_once(engine, 6, InferencePool(concurrency=1, queue=2))
    refused = [answer.code for answer in answers if isinstance(answer, ServingError)]
    assert refused == [grpc.StatusCode.UNAVAILABLE] * 3
    assert [answer["y"].tolist() for answer in answers if isinstance(answer, dict)] == [[[2.0]]] * 3
    assert len(engine.ran) == 3


def test_a_request_given_up_while_it_waits_is_not_run_and_its_place_is_free() -> None:
    engine = Doubler()
    pool = InferencePool(concurrency=1, queue=1)
    ask_at_once(engine, 2, pool, give_up=1)
    assert len(engine.ran) == 1
    answers = ask_at_once(engine, 2, pool)
    assert [answer["y"].tolist() for answer in answers] == [[[2.0]]] * 2


def test_no_thread_is_started_once_requests_come(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = InferencePool(concurrency=3, queue=0)

    def none_there(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none_there)
    answers = ask_at_once(Doubler(), 3, pool)
    assert [answer["y"].tolist() for answer in answers] == [[[2.0]]] * 3


def test_where_not_all_threads_can_be_had_none_is_left_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = threading.Thread.start, list[threading.Thread]()

    def two_there(thread: threading.Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", two_there)
    with pytest.raises(RuntimeError, match="can't start"):
        InferencePool(concurrency=3, queue=0)
    for thread in started:
        thread.join(10)
        assert not thread.is_alive()
