"""The server that is tested: the embedded one, or the one that TFS_ADDRESS names."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from serving.modelserver.model_config import read_models
from tests.conformance.models import write_models
from tests.serving.conftest import metrics, serve
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass
class Server:
    """A server that speaks TensorFlow Serving's APIs, as a client sees it."""

    channel: grpc.Channel
    rest: str
    """Address of the REST API, as http://host:port."""
    models: Path
    """Folder of the models, as the server sees it."""
    embedded: bool

    @property
    def predictions(self) -> Any:
        return prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    @property
    def model_service(self) -> Any:
        return model_service_pb2_grpc.ModelServiceStub(self.channel)

    def metrics(self) -> dict[tuple[str, ...], float]:
        """As `tests.serving.conftest.metrics` has them."""
        return metrics(f"{self.rest}/monitoring/prometheus/metrics")

    def http(self, path: str, body: Any = None, *, raw: bytes | None = None) -> tuple[int, Any]:
        """Status and JSON of GET, or of POST where there is a body."""
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(f"{self.rest}{path}", data), timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())


def refused(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details() or ""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    address = os.environ.get("TFS_ADDRESS")
    if address:
        with grpc.insecure_channel(address) as channel:
            yield Server(channel, f"http://{os.environ['TFS_REST_ADDRESS']}", Path(os.environ["TFS_MODELS"]), False)
        return
    folder = tmp_path_factory.mktemp("conformance")
    models = read_models(write_models(folder))
    with serve(folder, models) as served:
        for model in models:
            wait_for(lambda: "AVAILABLE" in served.states(model.name).values(), 60, model.name)  # noqa: B023
        wait_for(lambda: served.states("half") == {2: "AVAILABLE", 3: "AVAILABLE"}, 60, "both versions of half")
        yield Server(served.channel, served.metrics_url.removesuffix("/monitoring/prometheus/metrics"), folder, True)
