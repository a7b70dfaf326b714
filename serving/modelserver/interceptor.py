"""Stands around every call: turns ServingError into its status code, counts and times."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError

from earshot.logs import get_log
from serving.modelserver.errors import ServingError, unexpected
from serving.modelserver.metrics import APIS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from serving.modelserver.metrics import ServingMetrics

log = get_log(__name__)

MOST_DETAILS = 1024
"""Characters of a message that a client gets, beside a word that there were more. It travels as a header, and clients
take few KB of those."""


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Answers errors of every unary call, and keeps the metrics of those that run models."""

    def __init__(self, metrics: ServingMetrics) -> None:
        self._metrics = metrics
        self._wrapped: dict[str, Any] = {}
        """Handler of each method that was ever called."""

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        """The handler of a call, wrapped; those that the services leave out are passed on as they are."""
        path = handler_call_details.method
        if path in self._wrapped:
            return self._wrapped[path]
        handler = await continuation(handler_call_details)
        if handler is None or not inspect.iscoroutinefunction(handler.unary_unary):
            return handler
        self._wrapped[path] = self._around(handler, path.rpartition("/")[2])
        return self._wrapped[path]

    def _around(self, handler: Any, method: str) -> Any:
        around = self._measured(handler.unary_unary, method) if method in APIS else _answering(handler.unary_unary)
        decode = handler.request_deserializer

        def decoded(raw: bytes) -> Any:
            try:
                return decode(raw)
            except DecodeError as error:  # what is raised here would reach the client as UNKNOWN, and the log at length
                return error

        return grpc.unary_unary_rpc_method_handler(around, decoded, handler.response_serializer)

    def _measured(self, behaviour: Callable[[Any, Any], Awaitable[Any]], method: str) -> Callable[[Any, Any], Any]:
        answering = _answering(behaviour)

        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            started = time.monotonic()
            code = grpc.StatusCode.OK
            try:
                with self._metrics.in_flight(method):
                    return await answering(request, context)
            except asyncio.CancelledError:
                left_s = context.time_remaining()
                late = left_s is not None and left_s <= 0
                code = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
                raise
            except grpc.aio.AbortError:
                code = context.code()
                raise
            finally:
                seconds = time.monotonic() - started
                self._metrics.answered(_model(request), method, "GRPC", code.name, seconds)

        return call


def _answering(behaviour: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Any]:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            if isinstance(request, DecodeError):
                raise ServingError(grpc.StatusCode.INTERNAL, f"Unable to parse request: {request}")
            return await behaviour(request, context)
        except ServingError as error:
            await context.abort(error.code, _details(error))
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            log.exception("request failed")
            told = unexpected(error)
            await context.abort(told.code, _details(told))

    return call


def _details(error: ServingError) -> str:
    encoded = error.message.encode(errors="replace")
    if len(encoded) <= MOST_DETAILS:
        return error.message
    return encoded[:MOST_DETAILS].decode(errors="ignore") + "...TRUNCATED"


def _model(request: Any) -> str:
    """The model that a request asks for."""
    if isinstance(request, DecodeError):
        return ""
    tasks = getattr(request, "tasks", None)
    if tasks is not None:
        return str(tasks[0].model_spec.name) if tasks else ""
    return str(request.model_spec.name)
