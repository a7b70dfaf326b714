"""Stands around every call: turns ServingError into its status code, counts and times."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, Any

import grpc

from earshot.logs import get_log
from serving.errors import ServingError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from serving.metrics import ServingMetrics

log = get_log(__name__)


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Answers errors and keeps the metrics of every unary call."""

    def __init__(self, metrics: ServingMetrics) -> None:
        self._metrics = metrics

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        """The handler of a call, wrapped; those that the services leave out are passed on as they are."""
        handler = await continuation(handler_call_details)
        if handler is None or not inspect.iscoroutinefunction(handler.unary_unary):
            return handler
        method = handler_call_details.method.rpartition("/")[2]
        return grpc.unary_unary_rpc_method_handler(
            self._around(handler.unary_unary, method), handler.request_deserializer, handler.response_serializer
        )

    def _around(self, behaviour: Callable[[Any, Any], Awaitable[Any]], method: str) -> Callable[[Any, Any], Any]:
        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            started = time.monotonic()
            self._metrics.arrived(method)
            code = grpc.StatusCode.OK
            try:
                return await behaviour(request, context)
            except ServingError as error:
                code = error.code
                await context.abort(error.code, error.message)
            except asyncio.CancelledError:
                left_s = context.time_remaining()
                late = left_s is not None and left_s <= 0
                code = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
                raise
            except grpc.aio.AbortError:
                code = context.code()
                raise
            except Exception as error:
                code = grpc.StatusCode.INTERNAL
                log.exception("request failed", method=method)
                await context.abort(code, f"{type(error).__name__}: {error}")
            finally:
                self._metrics.answered(method, code.name, time.monotonic() - started)

        return call
