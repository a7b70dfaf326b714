"""Asks the model server, over TensorFlow Serving's gRPC API, with a deadline on every request and bounded retries.

A server that is away, starting or overloaded is asked again, until it has been away for the retry budget; after that
each request is tried once and fails at once, so that a long outage does not hold segments until their topic drops them:
as dead letters they are kept longer. Where nothing was asked for over a minute it begins anew. A request that the
server refuses, or whose answer is of no use, is split, so that one bad segment does not take its neighbours with it.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from earshot.logs import get_log
from earshot.tfserving import messages
from processors import metrics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

log = get_log(__name__)

SIGNATURE = "serving_default"

RETRIED = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        # TensorFlow Serving's answers while a model is not loaded yet, or is being replaced.
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
    }
)
"""Codes after which the same request may succeed."""

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0

_CHANNEL_OPTIONS = (
    ("grpc.lb_policy_name", "round_robin"),
    # gRPC's own backoff grows to two minutes, and a server that is back should be noticed at once.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


class PredictError(RuntimeError):
    """The model gave no scores; the message says what to look at."""


class ModelAway(PredictError):
    """The model server was away, or the model not loaded, for longer than the retry budget."""


class Refused(PredictError):
    """The model server refused the request, and would refuse it again."""


class BadAnswer(PredictError):
    """The model server's answer cannot be read as scores."""


class WrongModel(PredictError):
    """The model takes other input than the spectrogram; the message says which."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """Every class's score for one segment."""

    scores: dict[str, float]
    """Class name to score, 0 to 1."""
    model_version: int
    """Version of the model that answered."""
    thresholds: dict[str, float] = field(default_factory=dict)
    """Class name to the score below which the model itself calls it unknown; a model may have none."""


class Predictor:
    """A client of one model; make it inside a running event loop, and close it."""

    def __init__(
        self, address: str, model_name: str, *, timeout_s: float = 30.0, retry_budget_s: float = 300.0
    ) -> None:
        self._address = address
        self._model_name = model_name
        self._timeout_s = timeout_s
        self._retry_budget_s = retry_budget_s
        self._away_since: float | None = None
        self._failed_at = 0.0
        """When a request failed last, while it is away."""
        self._channel = grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS)
        self._predict = self._channel.unary_unary(
            messages.PREDICT_METHOD,
            request_serializer=messages.PredictRequest.SerializeToString,
            response_deserializer=messages.PredictResponse.FromString,
        )
        self._metadata = self._channel.unary_unary(
            messages.METADATA_METHOD,
            request_serializer=messages.GetModelMetadataRequest.SerializeToString,
            response_deserializer=messages.GetModelMetadataResponse.FromString,
        )

    @property
    def away(self) -> bool:
        """Whether the last request met a server that is away."""
        return self._away_since is not None

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def wait_for_model(self, image_shape: tuple[int, ...]) -> None:
        """Wait, with a log line now and then, until the model answers; WrongModel where it takes other images.

        `image_shape` is [mels, frames, channels].
        """
        request = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = self._model_name
        waited_since = time.monotonic()
        next_line_s = 0.0
        while True:
            try:
                response = await self._metadata(request, timeout=min(self._timeout_s, 5.0))
            except grpc.aio.AioRpcError as error:
                if error.code() not in RETRIED:
                    raise WrongModel(
                        f"the server at {self._address} does not describe model {self._model_name}: {_explain(error)}"
                    ) from error
                waited_s = time.monotonic() - waited_since
                if waited_s >= next_line_s:
                    next_line_s = waited_s + 10.0
                    log.warning(
                        "waiting for the model server",
                        address=self._address,
                        model=self._model_name,
                        waited_s=round(waited_s),
                        answer=_explain(error),
                    )
                await asyncio.sleep(0.5)
                continue
            check_signature(response, image_shape, model=f"{self._model_name} at {self._address}")
            log.info("model answers", address=self._address, model=self._model_name)
            return

    async def predict_each(self, images: Sequence[NDArray[np.uint8]]) -> list[Prediction | PredictError]:
        """A prediction for each image (uint8 [mels, frames, channels]), or why there is none for it."""
        try:
            return list(await self.predict(images))
        except (Refused, BadAnswer) as error:
            if len(images) == 1:
                return [error]
            log.warning("no answer to a batch, asking one by one", segments=len(images), error=str(error))
        except PredictError as error:
            return [error] * len(images)
        return [outcome for image in images for outcome in await self.predict_each([image])]

    async def predict(self, images: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        """A prediction for each image, from one request; raises PredictError."""
        request = predict_request(self._model_name, images)
        attempt = 0
        while True:
            started = time.perf_counter()
            try:
                response = await self._predict(request, timeout=self._timeout_s)
            except grpc.aio.AioRpcError as error:
                if error.code() not in RETRIED:
                    self._away_since = None
                    raise Refused(f"model {self._model_name} refused {len(images)}: {_explain(error)}") from error
                await self._pause(error, attempt)
                attempt += 1
                continue
            metrics.PREDICT_S.observe(time.perf_counter() - started)
            if self.away:
                log.info("model server is back", address=self._address)
            self._away_since = None
            return read_predictions(response, len(images))

    async def _pause(self, error: grpc.aio.AioRpcError, attempt: int) -> None:
        """Sleep before the next attempt; raises ModelAway where the budget is spent."""
        now = time.monotonic()
        # While nothing was asked it may have been back: then this is another outage.
        unasked_s = now - self._failed_at - 2 * (self._timeout_s + _LONGEST_PAUSE_S)
        self._failed_at = now
        if self._away_since is None or unasked_s > 0:
            self._away_since = now
            log.warning("model server is away", address=self._address, answer=_explain(error))
        left_s = self._away_since + self._retry_budget_s - now
        if left_s <= 0:
            raise ModelAway(
                f"the model server at {self._address} has given no prediction for {now - self._away_since:.0f} s: "
                f"{_explain(error)}"
            ) from error
        metrics.RETRIES.labels(code=error.code().name).inc()
        longest_s = min(_FIRST_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S)
        # Jitter, so that workers do not all return at one moment.
        await asyncio.sleep(min(longest_s * random.uniform(0.5, 1.0), left_s))  # noqa: S311


def predict_request(model_name: str, images: Sequence[NDArray[np.uint8]]) -> Any:
    """The request for a batch of images; `tensor_content`, as fields of one number each are 15 times slower."""
    batch = np.stack(images)
    request = messages.PredictRequest()
    request.model_spec.name = model_name
    request.model_spec.signature_name = SIGNATURE
    tensor = request.inputs["spectrogram"]
    tensor.dtype = messages.DT_UINT8
    for size in batch.shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = batch.tobytes()
    return request


def read_predictions(response: Any, segments: int) -> list[Prediction]:
    """The predictions of a response for `segments` images; raises BadAnswer where it does not hold them."""
    missing = {"scores", "classes"} - set(response.outputs)
    if missing:
        raise BadAnswer(f"the model's answer lacks {' and '.join(sorted(missing))}; export it with serving.export")
    scores = _floats(response.outputs["scores"], "scores")
    try:
        names = [name.decode() for name in response.outputs["classes"].string_val]
    except UnicodeDecodeError as error:
        raise BadAnswer(f"the model answered a class name that is not UTF-8: {error}") from error
    thresholds = _floats(response.outputs["thresholds"], "thresholds") if "thresholds" in response.outputs else None
    version = response.model_spec.version.value
    if version < 1:
        raise BadAnswer("the model's answer does not say its version")
    return predictions(scores, names, thresholds, segments=segments, version=version)


def predictions(
    scores: NDArray[np.float32],
    names: Sequence[str],
    thresholds: NDArray[np.float32] | None,
    *,
    segments: int,
    version: int,
) -> list[Prediction]:
    """The predictions for `segments` images from a model's outputs; raises BadAnswer where they do not hold them."""
    if scores.ndim != 2 or scores.shape[0] != segments:
        raise BadAnswer(f"the model answered scores of shape {list(scores.shape)} for {segments} segments")
    classes = scores.shape[1]
    # One row of names a segment, all the same; a server may also send the row once.
    if not classes or len(names) not in {classes, classes * segments}:
        raise BadAnswer(f"the model answered {len(names)} class names for {classes} scores a segment")
    if not np.all((scores >= -1e-3) & (scores <= 1 + 1e-3)):
        raise BadAnswer("the model answered scores outside 0 to 1; its last layer should be a softmax")
    least: dict[str, float] = {}
    if thresholds is not None:
        if thresholds.shape != scores.shape:
            raise BadAnswer(f"the model answered thresholds {list(thresholds.shape)} for scores {list(scores.shape)}")
        least = dict(zip(names, thresholds[0].tolist(), strict=False))  # each row has the same
    return [
        Prediction(dict(zip(names[:classes], row, strict=True)), version, least)
        for row in np.clip(scores, 0.0, 1.0).tolist()
    ]


def _floats(tensor: Any, name: str) -> NDArray[np.float32]:
    """A DT_FLOAT TensorProto as an array: servers answer in `float_val` unless they are told otherwise."""
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.dtype != messages.DT_FLOAT:
        raise BadAnswer(f"the model answered {name} of data type {tensor.dtype}, not {messages.DT_FLOAT} (float)")
    if tensor.tensor_content:
        values = np.frombuffer(tensor.tensor_content, dtype="<f4") if len(tensor.tensor_content) % 4 == 0 else None
    else:
        values = np.array(tensor.float_val, dtype=np.float32)
    if values is None or min(shape, default=0) < 0 or values.size != math.prod(shape):
        raise BadAnswer(f"the model answered {name} whose values do not fill their shape {shape}")
    return values.reshape(shape)


def check_signature(response: Any, image_shape: tuple[int, ...], *, model: str) -> None:
    """Raise WrongModel unless a GetModelMetadata response has the signature for uint8 [batch, *image_shape]."""
    signatures = messages.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    check_input(signatures.signature_def, image_shape, model=model)


def check_input(signatures: Mapping[str, Any], image_shape: tuple[int, ...], *, model: str) -> None:
    """Raise WrongModel unless `signatures` (a SignatureDef by name) have the one for uint8 [batch, *image_shape]."""
    if SIGNATURE not in signatures:
        raise WrongModel(f"model {model} has no signature {SIGNATURE}; export it with serving.export")
    inputs = signatures[SIGNATURE].inputs
    if "spectrogram" not in inputs:
        raise WrongModel(f"model {model} takes {', '.join(sorted(inputs)) or 'nothing'}, not an input `spectrogram`")
    tensor = inputs["spectrogram"]
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    expected = [-1, *image_shape]
    if shape != expected or tensor.dtype != messages.DT_UINT8:
        raise WrongModel(
            f"model {model} takes a spectrogram of shape {shape} and data type {tensor.dtype}, Earshot makes "
            f"{expected} and {messages.DT_UINT8} (uint8); serve a model that was trained on the same spectrogram"
        )


def _explain(error: grpc.aio.AioRpcError) -> str:
    return f"{error.code().name}: {error.details()}"
