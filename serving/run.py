"""The command that serves a model."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from earshot.command import fail

if TYPE_CHECKING:
    from serving.settings import ServerSettings


def run(settings: ServerSettings) -> None:
    """Serve a model over TensorFlow Serving's gRPC API.

    The model base path holds a numeric folder for each version, as `retrain` writes them. The newest whole one is
    served; a newer folder takes over as soon as it has loaded and warmed up, with no request lost. Clients use gRPC on
    --port (PredictionService, ModelService, grpc.health.v1); Prometheus scrapes /monitoring/prometheus/metrics on
    --rest-api-port. SIGTERM and Ctrl-C finish the requests in flight and end with exit status 0.
    """
    signal.signal(signal.SIGTERM, _end)  # until the event loop takes over: TensorFlow takes seconds to import
    signal.signal(signal.SIGINT, _end)
    _check_ports(settings)
    _quieten(debug=settings.log_level == "debug")

    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(settings.intra_op_threads)
    tf.config.threading.set_inter_op_parallelism_threads(settings.inter_op_threads)
    base_path = _base_path(settings)  # after the threads: expanding the starter model starts TensorFlow's

    from serving.server import PortTaken

    try:
        asyncio.run(_serve(settings, base_path))
    except PortTaken as error:
        raise fail(error) from None


async def _serve(settings: ServerSettings, base_path: Path) -> None:
    from serving.server import ModelServer

    server = ModelServer(settings, base_path)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    await server.start()
    await stop.wait()
    await server.stop()


def _end(*_: object) -> NoReturn:
    raise SystemExit(0)


def _check_ports(settings: ServerSettings) -> None:
    """Find a taken port before the seconds that TensorFlow takes to import."""
    for option, port in (("port", settings.port), ("rest-api-port", settings.rest_api_port)):
        try:
            socket.create_server((settings.host, port)).close()
        except OSError as error:
            raise fail(
                f"cannot listen on {settings.host}:{port} ({error.strerror or error}); choose another --{option}"
            ) from None


def _quieten(*, debug: bool) -> None:
    # The server needs no Keras, and TensorFlow imports Keras 3 (3 s) unless it is told to look for the old one.
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    if not debug:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")


def _base_path(settings: ServerSettings) -> Path:
    path = settings.model_base_path
    if path is None:
        from serving.starter import ensure_starter

        return Path(ensure_starter())
    if not path.is_dir():
        raise fail(f"model base path {path} is no folder; give the folder that holds the version folders (1, 2, ...)")
    if (path / "saved_model.pb").exists():
        raise fail(
            f"model base path {path} is a version itself; give the folder that holds it, {path.absolute().parent}"
        )
    return path
