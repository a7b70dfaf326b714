"""The model server: TensorFlow Serving's gRPC services over one model's versions, health, metrics."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from earshot.logs import get_log
from serving.engine import TensorFlowEngine
from serving.http_server import MetricsServer
from serving.inference_pool import InferencePool
from serving.interceptor import CallInterceptor
from serving.metrics import ServingMetrics
from serving.model_service import ModelService
from serving.predict_service import PredictService
from serving.servables import Servables
from serving.versions import VersionWatcher

if TYPE_CHECKING:
    from pathlib import Path

    from serving.settings import ServerSettings

log = get_log(__name__)

HEALTH_NAMES = ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")
"""Names that the gRPC health service knows; the empty one is the server as a whole."""


class PortTaken(OSError):
    """A port cannot be listened on; the message says which and what to do."""


class ModelServer:
    """Serves the newest version under `base_path`; it is made, started and stopped within one event loop."""

    def __init__(self, settings: ServerSettings, base_path: Path) -> None:
        self.settings = settings
        self.port = 0
        self.metrics = ServingMetrics()
        self.metrics.loaded(settings.model_name, None)
        self._loop = asyncio.get_running_loop()
        self._pool = InferencePool(settings.concurrency or os.cpu_count() or 1, settings.queue)
        self._health = health.HealthServicer()
        self._health_set: set[asyncio.Task[None]] = set()
        self._watcher = VersionWatcher(base_path, load_engine, poll_s=settings.poll_s, on_change=self._version_changed)
        self._http = _listen_http(settings, self.metrics)
        self._grpc = self._grpc_server()

    @property
    def rest_api_port(self) -> int:
        """The port of the metrics."""
        return self._http.port

    async def start(self) -> None:
        """Listen, and begin to load; raises PortTaken. Until a version is available requests are answered NOT_FOUND."""
        for name in HEALTH_NAMES:
            await self._health.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
        address = f"{self.settings.host}:{self.settings.port}"
        try:
            self.port = self._grpc.add_insecure_port(address)
        except RuntimeError as error:
            self._http.stop()
            raise PortTaken(_taken(address, "port")) from error
        await self._grpc.start()
        self._http.start()
        self._watcher.start()
        log.info("listening", grpc=f"{self.settings.host}:{self.port}", http_port=self.rest_api_port)

    async def stop(self) -> None:
        """Refuse new requests, finish those in flight within the grace period, and let go of everything."""
        await self._health.enter_graceful_shutdown()
        await self._grpc.stop(self.settings.grace_s)
        await asyncio.to_thread(self._watcher.stop)
        self._pool.close()
        self._http.stop()
        log.info("stopped")

    def _grpc_server(self) -> grpc.aio.Server:
        max_bytes = self.settings.max_message_mib * 1024 * 1024
        server = grpc.aio.server(
            interceptors=[CallInterceptor(self.metrics)],
            options=[
                ("grpc.max_receive_message_length", max_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),  # else a second server on the same port takes half of the requests
                # A client may probe an idle connection this often without being sent away.
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
                ("grpc.keepalive_permit_without_calls", 1),
            ],
        )
        servables = Servables({self.settings.model_name: self._watcher})
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictService(servables, self._pool, max_bytes), server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(servables), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        return server

    def _version_changed(self) -> None:
        """Called from the watcher's thread."""
        loaded = self._watcher.loaded
        self.metrics.loaded(self.settings.model_name, loaded)
        asyncio.run_coroutine_threadsafe(self._set_health(loaded is not None), self._loop).result()

    async def _set_health(self, serving: bool) -> None:
        states = health_pb2.HealthCheckResponse
        for name in HEALTH_NAMES:
            await self._health.set(name, states.SERVING if serving else states.NOT_SERVING)


def load_engine(version_dir: Path) -> TensorFlowEngine:
    """The engine of a version, warmed up."""
    engine = TensorFlowEngine(version_dir)
    engine.warm_up(version_dir)
    return engine


def _listen_http(settings: ServerSettings, metrics: ServingMetrics) -> MetricsServer:
    try:
        return MetricsServer(settings.host, settings.rest_api_port, metrics.registry)
    except OSError as error:
        raise PortTaken(_taken(f"{settings.host}:{settings.rest_api_port}", "rest-api-port")) from error


def _taken(address: str, option: str) -> str:
    return f"cannot listen on {address}: it is taken, or not an address of this host; choose another --{option}"
