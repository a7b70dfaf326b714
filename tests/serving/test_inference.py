"""How much of what clients send may wait to be read."""

from __future__ import annotations

import asyncio
import threading
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
