"""How much of what clients send may wait to be read."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress
from typing import Any

import grpc
import pytest

from serving.modelserver.errors import ServingError
from serving.modelserver.inference import Inference
from serving.modelserver.inference_pool import InferencePool
from serving.modelserver.metrics import ServingMetrics
from serving.modelserver.servables import Servables


def no_models(*_: Any) -> Any:
    raise AssertionError


def test_no_more_requests_wait_to_be_read_than_may_wait_for_the_model() -> None:
    go = threading.Event()

    async def main() -> None:
        inference = Inference(Servables(no_models), InferencePool(1, 1), ServingMetrics(), 1 << 20, most_decoding=2)
        slow = [asyncio.ensure_future(inference._decoded(lambda: go.wait(30), heavy=True)) for _ in range(2)]
        await asyncio.sleep(0.05)
        with pytest.raises(ServingError, match="2 requests are being read already") as refused:
            await inference._decoded(lambda: True, heavy=True)
        assert refused.value.code is grpc.StatusCode.UNAVAILABLE
        assert await inference._decoded(lambda: True, heavy=False)
        go.set()
        assert await asyncio.gather(*slow) == [True, True]
        assert await inference._decoded(lambda: True, heavy=True)
        inference.close()

    asyncio.run(main())


def test_a_thread_that_still_reads_for_who_gave_up_is_not_taken_for_free() -> None:
    go, threads, reading = threading.Event(), os.cpu_count() or 1, list[int]()

    def slow() -> bool:
        reading.append(1)
        return go.wait(30)

    async def main() -> None:
        inference = Inference(Servables(no_models), InferencePool(1, 1), ServingMetrics(), 1 << 20)
        for _ in range(threads + 5):
            with suppress(TimeoutError):
                await asyncio.wait_for(inference._decoded(slow, heavy=True), 0.05)
        assert len(reading) == threads
        assert inference._codec._work_queue.qsize() == 0
        go.set()
        assert await inference._decoded(lambda: "read", heavy=True) == "read"
        inference.close()

    asyncio.run(main())
