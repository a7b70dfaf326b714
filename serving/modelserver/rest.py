"""TensorFlow Serving's REST API, and the metrics: the HTTP port."""

from __future__ import annotations

import asyncio
import json
import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import grpc
from aiohttp import web
from google.protobuf.json_format import MessageToDict
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from earshot.logs import get_log
from earshot.tfserving import messages
from serving.modelserver.errors import ServingError, invalid, unavailable, unexpected
from serving.modelserver.model_service import model_status
from serving.modelserver.prediction_service import SIGNATURE_FIELD, model_metadata
from serving.modelserver.rest_examples import classify_answer, examples, regress_answer
from serving.modelserver.rest_json import parse, signature_name
from serving.modelserver.rest_tensors import has_rows, predict_answer, predict_inputs
from serving.modelserver.signatures import DEFAULT_SIGNATURE
from serving.modelserver.tensors import LIGHT_BYTES
from serving.modelserver.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message
    from tensorflow_serving.apis import model_pb2

    from serving.modelserver.inference import Inference
    from serving.modelserver.metrics import ServingMetrics
    from serving.modelserver.servables import Servables

log = get_log(__name__)

METRICS_PATH = "/monitoring/prometheus/metrics"

_MOST_HEADER_BYTES = 1 << 16
"""Of each header, and of the first line; gateways pass on tokens of many kB."""
_MOST_DIGITS = 1000
"""Of a version's number: Python reads no more than some thousands."""
_WHICH = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_METHOD = r"(?-i:(?P<method>classify|regress|predict))"  # all else may be in capitals
_INFERENCE = re.compile(rf"/v1/models/(?P<name>[^/:]+){_WHICH}:{_METHOD}", re.IGNORECASE)
_ABOUT = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_WHICH}(?:/(?P<what>metadata))?", re.IGNORECASE)

_HTTP = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}
"""HTTP status of each code, as TensorFlow Serving maps them; of all others 500."""


class RestApi:
    """Answers HTTP on one port; it is made, started and stopped within one event loop."""

    def __init__(
        self,
        servables: Servables,
        inference: Inference,
        metrics: ServingMetrics,
        *,
        max_bytes: int,
        most_requests: int | None,
        timeout_s: float | None,
        grace_s: float,
        metrics_path: str | None = METRICS_PATH,
    ) -> None:
        """Make the server, which does not listen yet.

        max_bytes: most that a request's body, and its tensors, may have. most_requests: requests for models at once,
        each from when all of it is there; more are refused; None: as many as come. timeout_s: None lets a request take
        as long as it takes. grace_s: seconds that requests in flight get when it stops. metrics_path: None serves no
        metrics.
        """
        self._servables, self._inference, self._metrics = servables, inference, metrics
        self._max_bytes, self._timeout_s = max_bytes, timeout_s
        self._most_requests, self._requests = most_requests, 0
        self._uploads = Uploads(None if most_requests is None else most_requests * max_bytes)
        app = web.Application(client_max_size=max_bytes)
        if metrics_path:
            app.router.add_get(metrics_path, self._scrape)
        app.router.add_route("*", "/{api:[vV]1}/{rest:.*}", self._answer)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            shutdown_timeout=max(grace_s, 0.01),  # to aiohttp 0 is for ever
            handler_cancellation=True,  # a client that hangs up lets go of its place
            auto_decompress=False,  # `Uploads` does, up to the bound
            max_line_size=_MOST_HEADER_BYTES,
            max_field_size=_MOST_HEADER_BYTES,
        )
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listen; raises OSError where the port is taken."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError:
            await self._runner.cleanup()
            raise
        self.port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop answering and free the port."""
        await self._runner.cleanup()

    async def _scrape(self, _: web.Request) -> web.Response:
        # In the plain format, as TensorFlow Serving's: in OpenMetrics the colons of its names would become underscores.
        page = generate_latest(self._metrics.registry)
        return web.Response(body=page, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    async def _answer(self, request: web.Request) -> web.Response:
        try:
            return _json_response(await self._answered(request))
        except ServingError as error:
            return _refused(error)
        except web.HTTPRequestEntityTooLarge:
            limit = f"a request may have {self._max_bytes} bytes; --max-message-mib allows more"
            return _json_response(json.dumps({"error": limit}), 413)
        except (web.HTTPException, asyncio.CancelledError):
            raise
        except Exception as error:
            log.exception("request failed")
            return _refused(unexpected(error))

    async def _answered(self, request: web.Request) -> str:
        """The JSON that answers any request; raises ServingError."""
        path = request.rel_url.raw_path_qs  # a query is nothing that the API has, and makes another path
        if request.method == "POST" and (found := _INFERENCE.fullmatch(path)):
            return await self._infer(found, request)
        found = _ABOUT.fullmatch(path) if request.method == "GET" else None
        with self._counted(unquote(found["name"] or "") if found else ""):
            if not found:
                raise invalid(f"Malformed request: {request.method} {path}")
            if not found["name"]:
                raise invalid("Missing model name in request.")
            if found["what"] == "metadata":  # TensorFlow Serving takes it in capitals too, and answers with the status
                return _pretty(self._metadata(_spec(found)))
            status = model_status(self._servables, messages.GetModelStatusRequest(model_spec=_spec(found)))
            return _pretty(_as_dict(status))

    async def _infer(self, found: re.Match[str], request: web.Request) -> str:
        method = found["method"]
        with self._counted(unquote(found["name"]), method):
            spec = _spec(found)
            try:
                async with asyncio.timeout(self._timeout_s) as limit:
                    self._require_place()  # else its body would be kept for nothing
                    body = await self._uploads.read(request)
                    with self._place(), self._metrics.in_flight(method.capitalize()):
                        parsed = await self._inference.do(lambda: parse(body), heavy=len(body) > LIGHT_BYTES)
                        spec.signature_name = signature_name(parsed)
                        ask = {"predict": self._predict, "classify": self._classify, "regress": self._regress}[method]
                        return await ask(spec, parsed, heavy=len(body) > LIGHT_BYTES)
            except TimeoutError:
                if not limit.expired():
                    raise
                words = f"not answered within {self._timeout_s:g} s (--rest-api-timeout-in-ms)"
                raise ServingError(grpc.StatusCode.DEADLINE_EXCEEDED, words) from None

    @contextmanager
    def _counted(self, model: str, method: str = "") -> Iterator[None]:
        """Count a request by how it ends, and time it if it succeeds; method: none for those about models."""
        started, code = time.monotonic(), grpc.StatusCode.OK
        try:
            yield
        except BaseException as error:
            code = _code(error)
            raise
        finally:
            self._metrics.answered(model, method, "REST", code.name, time.monotonic() - started)

    def _require_place(self) -> None:
        if self._most_requests is not None and self._requests >= self._most_requests:
            raise unavailable(f"{self._most_requests} requests are running or waiting already; try again later")

    @contextmanager
    def _place(self) -> Iterator[None]:
        self._require_place()
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    async def _predict(self, spec: model_pb2.ModelSpec, parsed: dict[str, Any], *, heavy: bool) -> str:
        self._check_signature(spec)
        rows = has_rows(parsed)
        answer = await self._inference.predict_arrays(
            spec, lambda signature: predict_inputs(parsed, signature, self._max_bytes), heavy=heavy
        )
        outgoing = sum(array.nbytes for array in answer.outputs.values())
        return await self._inference.do(
            lambda: _json(predict_answer(answer.outputs, rows=rows)), heavy=outgoing > LIGHT_BYTES
        )

    async def _classify(self, spec: model_pb2.ModelSpec, parsed: dict[str, Any], *, heavy: bool) -> str:
        sent = await self._inference.do(lambda: examples(parsed), heavy=heavy)
        response = await self._inference.classify(messages.ClassificationRequest(model_spec=spec, input=sent))
        return await self._inference.do(lambda: _json(classify_answer(response.result)), heavy=heavy)

    async def _regress(self, spec: model_pb2.ModelSpec, parsed: dict[str, Any], *, heavy: bool) -> str:
        sent = await self._inference.do(lambda: examples(parsed), heavy=heavy)
        response = await self._inference.regress(messages.RegressionRequest(model_spec=spec, input=sent))
        return await self._inference.do(lambda: _json(regress_answer(response.result)), heavy=heavy)

    def _check_signature(self, spec: model_pb2.ModelSpec) -> None:
        # TensorFlow Serving's REST API has a code and words of its own for it.
        name = spec.signature_name or DEFAULT_SIGNATURE
        with self._servables.lease(spec) as loaded:
            if name not in loaded.engine.signature_defs:
                raise invalid(f'Serving signature name: "{name}" not found in signature def')

    def _metadata(self, spec: model_pb2.ModelSpec) -> dict[str, Any]:
        request = messages.GetModelMetadataRequest(model_spec=spec, metadata_field=[SIGNATURE_FIELD])
        response = model_metadata(self._servables, request)
        signatures = messages.SignatureDefMap()
        signatures.ParseFromString(response.metadata[SIGNATURE_FIELD].value)
        return {"model_spec": _as_dict(response.model_spec), "metadata": {SIGNATURE_FIELD: _as_dict(signatures)}}


def _code(error: BaseException) -> grpc.StatusCode:
    """What gRPC would have called it."""
    if isinstance(error, ServingError):
        return error.code
    if isinstance(error, asyncio.CancelledError):
        return grpc.StatusCode.CANCELLED
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return grpc.StatusCode.RESOURCE_EXHAUSTED
    return grpc.StatusCode.INTERNAL


def _spec(found: re.Match[str]) -> model_pb2.ModelSpec:
    spec = messages.ModelSpec(name=unquote(found["name"]))
    if found["version"]:
        if len(found["version"]) > _MOST_DIGITS or int(found["version"]) >= 1 << 63:
            raise invalid(f"Failed to convert version: {found['version']} to numeric.")
        spec.version.value = int(found["version"])
    if found["label"]:
        spec.version_label = unquote(found["label"])
    return spec


def _refused(error: ServingError) -> web.Response:
    return _json_response(json.dumps({"error": error.message}), _HTTP.get(error.code, 500))


def _json_response(text: str, status: int = 200) -> web.Response:
    # A character set is nothing that JSON has, and clients may compare the header.
    return web.Response(body=text.encode(), status=status, headers={"Content-Type": "application/json"})


def _json(answer: dict[str, Any]) -> str:
    """JSON of one line: Python takes ten times as long for one with many."""
    return json.dumps(answer, ensure_ascii=False)


def _pretty(about: dict[str, Any]) -> str:
    """JSON of many lines, as people read it and search it with grep."""
    return json.dumps(about, ensure_ascii=False, indent=1)


def _as_dict(message: Message) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
