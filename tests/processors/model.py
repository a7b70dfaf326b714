"""A model server whose answers a test chooses.

It is a real gRPC server on a real port, with the messages and the service of the package tensorflow-serving-api, so the
light stubs meet TensorFlow Serving's own protocol. Only the scores are made up: a real model cannot be told to be
overloaded, to refuse one segment, or to go away for three seconds. Labels of a real model are tested in the demo's run.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

import grpc
import numpy as np
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

from processors.labeller import IMAGE_SHAPE

if TYPE_CHECKING:
    from collections.abc import Callable

CLASSES = ("dog_bark", "siren", "silence")
VERSION = 7
DT_FLOAT, DT_STRING, DT_UINT8 = 1, 7, 4


def scores_of(image: np.ndarray) -> np.ndarray:
    """Scores that tell images apart: float32 [classes], from the image's (uint8) mean."""
    brightness = float(image.mean()) / 255.0
    return np.array([brightness, (1 - brightness) * 0.75, (1 - brightness) * 0.25], dtype=np.float32)


class Model(prediction_service_pb2_grpc.PredictionServiceServicer):  # type: ignore[misc]
    """The made-up model; a test sets its fields, before or while it runs."""

    def __init__(self) -> None:
        self.failures: deque[grpc.StatusCode] = deque()
        """Codes that the next Predict calls fail with."""
        self.refuses: Callable[[np.ndarray], bool] = lambda image: False
        """A request that holds such an image is refused with INVALID_ARGUMENT."""
        self.spoils: Callable[[np.ndarray], bool] = lambda image: False
        """The scores of such an image are NaN."""
        self.as_content = False
        """Answer in tensor_content instead of float_val."""
        self.delay_s = 0.0
        """Seconds before each answer."""
        self.delays: deque[float] = deque()
        """Seconds before the next answers, instead."""
        self.input_shape = [-1, *IMAGE_SHAPE]
        self.batches: list[int] = []
        """Size of each batch that was asked, those that failed too."""
        self._lock = threading.Lock()

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        tensor = request.inputs["spectrogram"]
        shape = [dim.size for dim in tensor.tensor_shape.dim]
        assert tensor.dtype == DT_UINT8
        assert tuple(shape[1:]) == IMAGE_SHAPE
        images = np.frombuffer(tensor.tensor_content, dtype=np.uint8).reshape(shape)
        with self._lock:
            self.batches.append(len(images))
            failure = self.failures.popleft() if self.failures else None
            delay_s = self.delays.popleft() if self.delays else self.delay_s
        time.sleep(delay_s)
        if failure is not None:
            context.abort(failure, "as the test asked")
        if any(self.refuses(image) for image in images):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not this image")
        response = predict_pb2.PredictResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = VERSION
        scores = np.stack([scores_of(image) * (np.nan if self.spoils(image) else 1) for image in images])
        output = response.outputs["scores"]
        output.dtype = DT_FLOAT
        names = response.outputs["classes"]
        names.dtype = DT_STRING
        for size in scores.shape:
            output.tensor_shape.dim.add(size=size)
            names.tensor_shape.dim.add(size=size)
        if self.as_content:
            output.tensor_content = scores.tobytes()
        else:
            output.float_val.extend(scores.ravel().tolist())
        names.string_val.extend([name.encode() for name in CLASSES] * len(images))
        return response

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        signatures = get_model_metadata_pb2.SignatureDefMap()
        tensor = signatures.signature_def["serving_default"].inputs["spectrogram"]
        tensor.dtype = DT_UINT8
        for size in self.input_shape:
            tensor.tensor_shape.dim.add(size=size)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.metadata["signature_def"].Pack(signatures)
        return response


class ModelServer:
    """Serves a model on a free port of loopback; it can go away and come back on the same port."""

    def __init__(self, model: Model | None = None) -> None:
        self.model = model or Model()
        self.port = 0
        self._server: grpc.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(self.model, server)
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        server.start()
        self._server = server

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop(grace=0).wait()
            self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
