"""The model server: TensorFlow Serving's gRPC and REST APIs over several models' versions, health, metrics."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_SERVICE
from grpc_health.v1.health import aio as health

from earshot.logs import get_log
from serving.modelserver.batching import BatchingRunner
from serving.modelserver.batching_policy import BatchingPolicy, read_batching
from serving.modelserver.config_follower import ConfigFollower
from serving.modelserver.inference import Inference
from serving.modelserver.inference_pool import InferencePool
from serving.modelserver.interceptor import CallInterceptor
from serving.modelserver.loading import Loader, may_pass
from serving.modelserver.metrics import BatchingMetrics, ServingMetrics
from serving.modelserver.model_service import ModelService
from serving.modelserver.prediction_service import PredictionService
from serving.modelserver.reflection import add_reflection
from serving.modelserver.rest import METRICS_PATH, RestApi
from serving.modelserver.servables import Servables
from serving.modelserver.server_files import read_credentials, read_metrics_path
from serving.modelserver.versions import Retries, VersionWatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from serving.modelserver.inference_pool import Runner
    from serving.modelserver.model_config import ModelConfig
    from serving.settings import ServerSettings

log = get_log(__name__)

HEALTH_NAMES = ("", *(name for each in (PredictionService, ModelService) for name in (each.NAME, each.__name__)))
"""Names that the gRPC health service knows: the server as a whole, and each service as gRPC and TensorFlow Serving call
it."""
_INT32 = range(-(1 << 31), 1 << 31)


class PortTaken(OSError):
    """A port or socket cannot be listened on; the message says which and what to do."""


class ModelServer:
    """Serves models; it is made, started and stopped within one event loop."""

    def __init__(self, settings: ServerSettings, models: Sequence[ModelConfig]) -> None:
        """Raises InvalidConfig where a file that the settings name cannot be followed."""
        self.settings = settings
        self.port = 0
        self.metrics = ServingMetrics()
        self._models = models
        self._loop = asyncio.get_running_loop()
        self._credentials = read_credentials(settings.ssl_config_file) if settings.ssl_config_file else None
        path = read_metrics_path(settings.monitoring_config_file) if settings.monitoring_config_file else METRICS_PATH
        self._loader = Loader(settings, self.metrics)
        self._servables = Servables(
            self._watcher,
            changed=self._models_changed,
            labels_for_unavailable_models=settings.allow_version_labels_for_unavailable_models,
        )
        self._runner = _runner(settings, self.metrics)
        most_requests = None if settings.enable_batching else _concurrency(settings) + settings.queue
        self._inference = Inference(
            self._servables,
            self._runner,
            self.metrics,
            settings.max_bytes,
            most_decoding=most_requests,
            check_methods=settings.enable_signature_method_name_check,
            packed=settings.enable_serialization_as_tensor_content,
        )
        self._health = health.HealthServicer()
        self._grpc = self._grpc_server()
        self._rest = RestApi(
            self._servables,
            self._inference,
            self.metrics,
            max_bytes=settings.max_bytes,
            timeout_s=settings.rest_api_timeout_in_ms / 1000 if settings.rest_api_timeout_in_ms > 0 else None,
            grace_s=settings.grace_s,
            most_requests=most_requests,
            metrics_path=path,
        )
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def rest_api_port(self) -> int:
        """The port of the REST API and the metrics."""
        return self._rest.port

    async def start(self) -> None:
        """Listen, and begin to load; raises PortTaken. Until a version is available requests are answered NOT_FOUND."""
        for name in HEALTH_NAMES:
            await self._health.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
        await self._listen()
        self._servables.offer(self._models)
        file, poll_s = self.settings.model_config_file, self.settings.model_config_file_poll_wait_seconds
        if file and poll_s:
            self._keep(ConfigFollower(file, self._servables, self._models, poll_s, self._keep).run())
        log.info(
            "listening",
            grpc=f"{self.settings.host}:{self.port}",
            http_port=self.rest_api_port,
            tls=self._credentials is not None,
            models=[model.name for model in self._models],
        )

    async def stop(self) -> None:
        """Refuse new requests, finish those in flight within the grace period, and let go of everything."""
        for task in self._tasks:
            task.cancel()
        self._loader.stop()
        await self._health.enter_graceful_shutdown()
        await asyncio.gather(self._grpc.stop(self.settings.grace_s), self._rest.stop())
        await asyncio.to_thread(self._servables.stop)
        self._runner.close()
        self._inference.close()
        log.info("stopped")

    async def _listen(self) -> None:
        host = self.settings.host
        address = f"{f'[{host}]' if ':' in host else host}:{self.settings.port}"
        try:
            self.port = self._add_port(address)
        except RuntimeError as error:
            file = self.settings.ssl_config_file
            why = f"; or key and certificate of {file} are no PEM, or do not belong together" if file else ""
            raise PortTaken(_taken(address, "port") + why) from error
        if self.settings.grpc_socket_path:
            path = self.settings.grpc_socket_path
            _require_unused(path)
            try:
                self._add_port(f"unix:{path.absolute()}")
            except RuntimeError as error:
                raise PortTaken(
                    f"cannot listen on {path}: its folder must exist, and no other server use it"
                ) from error
        try:
            await self._rest.start(self.settings.host, self.settings.rest_api_port)
        except OSError as error:
            raise PortTaken(_taken(f"{self.settings.host}:{self.settings.rest_api_port}", "rest-api-port")) from error
        await self._grpc.start()

    def _add_port(self, address: str) -> int:
        if self._credentials is None:
            return self._grpc.add_insecure_port(address)
        return self._grpc.add_secure_port(address, self._credentials)

    def _grpc_server(self) -> grpc.aio.Server:
        own: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", self.settings.max_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # else a second server on the same port takes half of the requests
            # A client may probe an idle connection this often without being sent away.
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ("grpc.keepalive_permit_without_calls", 1),
        ]
        server = grpc.aio.server(
            interceptors=[CallInterceptor(self.metrics)],
            options=[*own, *_channel_arguments(self.settings.grpc_channel_arguments)],
        )
        for service in (PredictionService(self._servables, self._inference), ModelService(self._servables)):
            handler = grpc.method_handlers_generic_handler(service.NAME, service.handlers())
            server.add_generic_rpc_handlers((handler,))
        names = [PredictionService.NAME, ModelService.NAME]
        if self.settings.enable_grpc_healthcheck_service:
            health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
            names.append(HEALTH_SERVICE)
        add_reflection(server, names)
        return server

    def _watcher(self, model: ModelConfig, changed: Callable[[], None]) -> VersionWatcher:
        return VersionWatcher(
            model.base_path,
            self._loader.load,
            model=model.name,
            policy=model.policy,
            poll_s=self.settings.file_system_poll_wait_seconds,
            retries=Retries(self.settings.max_num_load_retries, max(0, self.settings.load_retry_interval_micros) / 1e6),
            passing=may_pass,
            on_change=changed,
        )

    def _models_changed(self) -> None:
        """Called from any thread, at times after the loop has ended."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        """Let metrics and the health service know what is served now."""
        watchers = dict(self._servables.watchers)
        self.metrics.offered({name: watcher.latest for name, watcher in watchers.items()})
        self._keep(self._set_health(self._servables.all_served))

    async def _set_health(self, serving: bool) -> None:
        states = health_pb2.HealthCheckResponse
        for name in HEALTH_NAMES:
            await self._health.set(name, states.SERVING if serving else states.NOT_SERVING)

    def _keep(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _concurrency(settings: ServerSettings) -> int:
    """Two for each core by default: one is computed while Python takes up or hands on the other."""
    return settings.concurrency or 2 * (os.cpu_count() or 1)


def _runner(settings: ServerSettings, metrics: ServingMetrics) -> Runner:
    if not settings.enable_batching:
        return InferencePool(_concurrency(settings), settings.queue)
    file = settings.batching_parameters_file
    return BatchingRunner(read_batching(file) if file else BatchingPolicy(), BatchingMetrics(metrics.registry))


def _channel_arguments(text: str) -> list[tuple[str, int | str]]:
    pairs = [pair.split("=") for pair in text.split(",") if pair]
    return [
        (key, int(value) if re.fullmatch(r"-?\d{1,10}", value) and int(value) in _INT32 else value)
        for key, value in pairs
    ]


def _require_unused(path: Path) -> None:
    """Raise PortTaken where another server listens on a socket: gRPC would take it over without a word."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path.absolute()))
        except OSError:
            return
    raise PortTaken(f"cannot listen on {path}: another server uses it; choose another --grpc-socket-path")


def _taken(address: str, option: str) -> str:
    return f"cannot listen on {address}: it is taken, or not an address of this host; choose another --{option}"
