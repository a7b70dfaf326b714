"""Health and metrics of a server that runs, and how it refuses to start."""

from __future__ import annotations

import asyncio
import shutil
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from serving.modelserver.metrics import APIS, CODES
from serving.modelserver.model_config import ModelConfig
from serving.modelserver.server import HEALTH_NAMES, ModelServer, PortTaken, _channel_arguments
from serving.settings import ServerSettings
from tests.serving.conftest import Served, metrics, serve
from tests.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = np.zeros((1, 128, 301, 3), np.uint8)
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def health(server: Served, name: str = "") -> int:
    stub = health_pb2_grpc.HealthStub(server.channel)
    state: int = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10).status
    return state


def test_health_follows_the_versions(tmp_path: Path, exported: Path) -> None:
    with serve(tmp_path) as server:
        assert [health(server, name) for name in HEALTH_NAMES] == [NOT_SERVING] * len(HEALTH_NAMES)
        shutil.copytree(exported, tmp_path / "1")
        server.wait_until_available(1)
        wait_for(lambda: health(server) == SERVING, 10, "health")
        assert [health(server, name) for name in HEALTH_NAMES] == [SERVING] * len(HEALTH_NAMES)
        shutil.rmtree(tmp_path / "1")
        wait_for(lambda: health(server) == NOT_SERVING, 10, "health to follow")


def test_the_services_have_the_names_that_tensorflow_serving_gives_them_too_and_health_can_be_left_out(
    base_path: Path,
) -> None:
    assert {"PredictionService", "ModelService"} <= set(HEALTH_NAMES)
    with serve(base_path, enable_grpc_healthcheck_service=False) as server, pytest.raises(grpc.RpcError) as caught:
        health(server)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("health_service", [True, False])
def test_reflection_describes_the_services_that_are_there(base_path: Path, health_service: bool) -> None:
    with serve(base_path, enable_grpc_healthcheck_service=health_service) as server:
        described = ProtoReflectionDescriptorDatabase(server.channel)
        listed = set(described.get_services())
        pool = DescriptorPool(described)
        assert all(pool.FindServiceByName(name).methods for name in listed)
    own = {"tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"}
    health_name = {"grpc.health.v1.Health"} if health_service else set()
    assert listed == own | health_name | {"grpc.reflection.v1alpha.ServerReflection"}


def test_health_of_an_unknown_service_is_not_found(served: Served) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        health(served, "no.such.Service")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_metrics_count_requests_by_code_and_tell_the_version(base_path: Path) -> None:
    with serve(base_path) as server:
        server.wait_until_available(1)
        for _ in range(3):
            server.predict(spectrogram=IMAGE)
        with pytest.raises(grpc.RpcError):
            server.predict(name="nightingale", spectrogram=IMAGE)
        wait_for(
            lambda: metrics(server.metrics_url).get(("earshot_serving_loaded_version", "earshot")) == 1.0,
            10,
            "the gauge",
        )
        values = metrics(server.metrics_url)
    assert values[":tensorflow:serving:request_count", "earshot", "OK"] == 3
    assert values[":tensorflow:serving:request_count", "unknown", "NOT_FOUND"] == 1
    assert values[":tensorflow:serving:request_latency_count", "Predict", "GRPC", "earshot"] == 3
    assert values[":tensorflow:serving:runtime_latency_count", "Predict", "earshot", "TF1"] == 3
    assert values[":tensorflow:cc:saved_model:load_attempt_count", str(base_path / "1"), "success"] == 1
    assert values["earshot_serving_load_seconds", "earshot"] > 0


def test_metrics_are_there_before_anything_happens(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        values = metrics(server.metrics_url)
        counts = [values[":tensorflow:serving:request_count", "earshot", code] for code in CODES]
        assert counts == [0] * len(CODES)
        assert [values["earshot_serving_requests_in_flight", api] for api in APIS] == [0] * len(APIS)
        assert values["earshot_serving_loaded_version", "earshot"] == 0


def test_numbers_are_answered_in_tensor_content_where_asked_for(base_path: Path, served: Served) -> None:
    with serve(base_path, enable_serialization_as_tensor_content=True) as server:
        server.wait_until_available(1)
        packed, typed = (each.predict(spectrogram=IMAGE).outputs for each in (server, served))
    assert (len(packed["scores"].tensor_content), list(packed["scores"].float_val)) == (3 * 4, [])
    assert not typed["scores"].tensor_content
    for name, tensor in typed.items():
        np.testing.assert_array_equal(tf.make_ndarray(packed[name]), tf.make_ndarray(tensor))


def test_channel_arguments_are_numbers_where_grpc_takes_them_for_some() -> None:
    text = "grpc.max_connection_age_ms=2147483647,a=-1,b=2147483648,c=1.5"
    arguments = [("grpc.max_connection_age_ms", 2**31 - 1), ("a", -1), ("b", "2147483648"), ("c", "1.5")]
    assert _channel_arguments(text) == arguments


def test_other_paths_of_the_http_port_are_not_found(served: Served) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(served.metrics_url.replace("/monitoring", "/nothing"), timeout=10)


@pytest.mark.parametrize("option", ["port", "rest_api_port"])
def test_a_taken_port_is_named(served: Served, tmp_path: Path, option: str) -> None:
    taken = (
        int(served.address.split(":")[1]) if option == "port" else int(served.metrics_url.split(":")[2].split("/")[0])
    )
    settings = ServerSettings.read({"port": 0, "rest_api_port": 0, option: taken})

    async def start() -> None:
        await ModelServer(settings, [ModelConfig("earshot", tmp_path)]).start()

    with pytest.raises(PortTaken, match=f"{taken}.*choose another --{option.replace('_', '-')}"):
        asyncio.run(start())
