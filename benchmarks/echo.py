"""A gRPC server that reads each request and answers all alike: what gRPC in Python costs by itself, for benchmarks.

Run as a module it is that server, as a process of its own; it writes its port on a line of its standard output.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc

from serving.modelserver.prediction_service import PredictionService

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWER = b""
"""A PredictResponse of no outputs."""

_KEEPS_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(1 << 28), "MALLOC_MMAP_THRESHOLD_": str(1 << 25)}
"""For glibc. A server that has nothing else in memory would give it back after each large request, and have the kernel
clear it anew for the next one, which takes longer than all the rest; one that runs models does not come to that."""


@contextmanager
def echo() -> Iterator[tuple[str, int]]:
    """The address of such a server, while it runs, and its process's id."""
    command = [sys.executable, "-m", "benchmarks.echo"]
    variables = {**os.environ, **_KEEPS_MEMORY}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables) as process:
        assert process.stdout
        try:
            yield f"127.0.0.1:{int(process.stdout.readline())}", process.pid
        finally:
            process.terminate()


async def _answer(_request: bytes, _context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    return ANSWER


async def _serve() -> None:
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {"Predict": grpc.unary_unary_rpc_method_handler(_answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(PredictionService.NAME, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve())
