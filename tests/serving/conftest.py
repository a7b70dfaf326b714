"""A small network and its exported version, shared by the serving tests: TensorFlow is slow to start, so once a run."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import grpc
import keras
import pytest
import tensorflow as tf
from prometheus_client.parser import text_string_to_metric_families
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.export import export_saved_model
from serving.modelserver.errors import ServingError
from serving.modelserver.model_config import ModelConfig
from serving.modelserver.servables import Servables
from serving.modelserver.server import ModelServer
from serving.settings import ServerSettings
from tests.serving.offered import watch
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

T = TypeVar("T")

CLASS_NAMES = ["dog_bark", "siren", "straße"]
THRESHOLDS = [0.25, 0.0, 1.0]


def small_network(seed: int = 0, classes: int = len(CLASS_NAMES)) -> Any:
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((128, 301, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(4, 9, strides=9, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(classes, activation="softmax"),
        ]
    )


@pytest.fixture(scope="session")
def network() -> Any:
    return small_network()


@pytest.fixture(scope="session")
def exported(network: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an exported version; tests copy it and never change it."""
    folder = tmp_path_factory.mktemp("exported") / "1"
    return export_saved_model(network, CLASS_NAMES, folder, card="# A card\n", thresholds=THRESHOLDS)


@dataclass
class Served:
    """A server that runs, as a client sees it."""

    base_path: Path
    address: str
    metrics_url: str
    channel: grpc.Channel

    @property
    def predictions(self) -> prediction_service_pb2_grpc.PredictionServiceStub:
        return prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    @property
    def models(self) -> model_service_pb2_grpc.ModelServiceStub:
        return model_service_pb2_grpc.ModelServiceStub(self.channel)

    def predict(self, name: str = "earshot", signature: str = "", timeout: float = 30, **inputs: Any) -> Any:
        return self.predictions.Predict(predict_request(name, signature, **inputs), timeout=timeout)

    def states(self, name: str = "earshot") -> dict[int, str]:
        """State of each version by its number; empty where there is none."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = name
        try:
            answer = self.models.GetModelStatus(request, timeout=10)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return {}
            raise
        states = get_model_status_pb2.ModelVersionStatus.State
        return {each.version: states.Name(each.state) for each in answer.model_version_status}

    def wait_until_available(self, version: int, timeout_s: float = 60) -> None:
        wait_for(lambda: self.states().get(version) == "AVAILABLE", timeout_s, f"version {version} to be available")


def predict_request(name: str = "earshot", signature: str = "", **inputs: Any) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(
            value if isinstance(value, tensor_pb2.TensorProto) else tf.make_tensor_proto(value)
        )
    return request


def patiently(run: Callable[[], T], timeout_s: float = 30) -> T:
    """What `run` gives, once it is no longer refused as UNAVAILABLE."""
    until = time.monotonic() + timeout_s
    while True:
        try:
            return run()
        except ServingError as error:
            if error.code is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > until:
                raise
        time.sleep(0.02)


def metrics(url: str) -> dict[tuple[str, ...], float]:
    """What a server's metrics say, by name and by the values of its labels, in the order of their names."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    samples = (sample for family in families for sample in family.samples)
    return {(each.name, *(value for _, value in sorted(each.labels.items()))): each.value for each in samples}


@contextmanager
def serve(
    base_path: Path, models: Sequence[ModelConfig] | None = None, *, secure: Any = None, **settings: Any
) -> Iterator[Served]:
    """The real server on free ports, in an event loop of its own; secure: credentials of the client's channel."""
    values = {"port": 0, "rest_api_port": 0, "file_system_poll_wait_seconds": 0.1, "concurrency": 2, **settings}
    ready: Future[tuple[ModelServer, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def main() -> None:
        try:
            offered = [ModelConfig("earshot", base_path)] if models is None else models
            server = ModelServer(ServerSettings(**values), offered)
            stop = asyncio.Event()
            await server.start()
        except BaseException as error:
            ready.set_exception(error)
            raise
        ready.set_result((server, asyncio.get_running_loop(), stop))
        await stop.wait()
        await server.stop()

    with ThreadPoolExecutor(1) as thread:
        ended = thread.submit(lambda: asyncio.run(main()))
        server, loop, stop = ready.result(timeout=60)
        address = f"127.0.0.1:{server.port}"
        try:
            options = [("grpc.max_receive_message_length", -1)]
            with (
                grpc.secure_channel(address, secure, options) if secure else grpc.insecure_channel(address, options)
            ) as channel:
                url = f"http://127.0.0.1:{server.rest_api_port}/monitoring/prometheus/metrics"
                yield Served(base_path, address, url, channel)
        finally:
            loop.call_soon_threadsafe(stop.set)
            ended.result(timeout=60)


@pytest.fixture(scope="session")
def served(exported: Path) -> Iterator[Served]:
    """A server with version 1 available; tests leave it as it is."""
    with serve(exported.parent) as server:
        server.wait_until_available(1)
        yield server


@pytest.fixture
def base_path(exported: Path, tmp_path: Path) -> Path:
    """A base path of the test's own, with version 1."""
    shutil.copytree(exported, tmp_path / "models" / "1")
    return tmp_path / "models"


@pytest.fixture
def servables() -> Iterator[Servables]:
    made = Servables(watch)
    yield made
    made.stop()
