"""The command that serves a model."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from earshot.command import fail, needs
from earshot.logs import get_log
from serving.layout import SAVED_MODEL_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serving.modelserver.model_config import ModelConfig
    from serving.settings import ServerSettings

log = get_log(__name__)


def run(settings: ServerSettings) -> None:
    """Serve models over TensorFlow Serving's APIs, until SIGTERM or Ctrl-C; requests in flight are answered."""
    signal.signal(signal.SIGTERM, _end)  # until the event loop takes over: TensorFlow takes seconds to import
    signal.signal(signal.SIGINT, _end)
    _check_settings(settings)
    _check_ports(settings)
    if settings.log_level != "debug":
        _quieten()
    if settings.engine == "tensorflow":
        _start_tensorflow(settings)

    from serving.modelserver.model_config import InvalidConfig
    from serving.modelserver.server import PortTaken

    # What has been imported stays, and need not be gone through after each version that is unloaded: 0.3 s and more, in
    # which nobody is answered.
    gc.freeze()
    try:
        asyncio.run(_serve(settings, _models(settings)))
    except (PortTaken, InvalidConfig) as error:
        raise fail(error) from None


async def _serve(settings: ServerSettings, models: list[ModelConfig]) -> None:
    from serving.modelserver.server import ModelServer

    server = ModelServer(settings, models)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, _stop_or_end, stop)
    await server.start()
    await stop.wait()
    await server.stop()


def _stop_or_end(stop: asyncio.Event) -> None:
    """Stop in good order; whoever asks a second time does not want to wait for it."""
    if stop.is_set():
        os._exit(1)
    stop.set()


def _end(*_: object) -> NoReturn:
    raise SystemExit(0)


def _check_settings(settings: ServerSettings) -> None:
    """Find settings that do not go together before the seconds that TensorFlow takes to import."""
    if settings.batching_parameters_file and not settings.enable_batching:
        raise fail("--batching-parameters-file says how to batch, and nothing is batched; add --enable-batching")
    if settings.engine != "openvino":
        if settings.precision != "f32":
            raise fail(f"--precision {settings.precision} is for OpenVINO; add --engine openvino")
        return
    with needs("openvino"):
        import openvino  # noqa: F401


def _check_ports(settings: ServerSettings) -> None:
    """Find a taken port before the seconds that TensorFlow takes to import."""
    try:
        socket.getaddrinfo(settings.host, None)
    except socket.gaierror as error:
        raise fail(f"--host {settings.host} is no address ({error.strerror}); 0.0.0.0 is every network") from None
    for option, port in (("port", settings.port), ("rest-api-port", settings.rest_api_port)):
        try:
            family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
            socket.create_server((settings.host, port), family=family).close()
        except OSError as error:
            raise fail(
                f"cannot listen on {settings.host}:{port} ({error.strerror or error}); choose another --{option}"
            ) from None


def _quieten() -> None:
    """Have what TensorFlow and gRPC are built of say nothing that is no error, whichever of them will be needed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")


def _start_tensorflow(settings: ServerSettings) -> None:
    # The server needs no Keras, and TensorFlow imports Keras 3 (3 s) unless it is told to look for the old one.
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    # oneDNN's own pool grows while two versions are loaded, and never gives anything back: docs/serving.md.
    os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")
    with nullcontext() if settings.log_level == "debug" else _without_stderr():
        import tensorflow as tf  # noqa: F401


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Lose what is written to the standard error within: TensorFlow tells of the CPU before it knows its log level."""
    stderr = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def _models(settings: ServerSettings) -> list[ModelConfig]:
    """The models to serve; raises InvalidConfig."""
    from serving.modelserver.model_config import ModelConfig, read_models

    if not settings.model_config_file:
        return [ModelConfig(settings.model_name, _base_path(settings))]
    if settings.model_base_path:  # TensorFlow Serving's image gives both
        log.warning("--model-config-file names the models, so --model-base-path is ignored")
    models = read_models(settings.model_config_file, may_be_empty=True)
    if not models:
        log.warning(
            "the models' file names none: there are none until it does, or a client reloads",
            file=str(settings.model_config_file),
        )
    for model in models:
        _check_base_path(model.base_path)
    return models


def _base_path(settings: ServerSettings) -> Path:
    path = settings.model_base_path
    if path is None:
        from serving.failures import InvalidModelFile
        from serving.starter import CannotExpand, ensure_starter_aside

        try:
            return ensure_starter_aside()
        except (InvalidModelFile, CannotExpand) as error:
            raise fail(f"{error}; or name a model with --model-base-path") from None
    _check_base_path(path)
    return path


def _check_base_path(path: Path) -> None:
    if not path.is_dir():
        raise fail(f"model base path {path} is no folder; give the folder that holds the version folders (1, 2, ...)")
    if (path / SAVED_MODEL_FILE).exists():
        raise fail(
            f"model base path {path} is a version itself; give the folder that holds it, {path.absolute().parent}"
        )
