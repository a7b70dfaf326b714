"""A model server as a process of its own, and what a client and the kernel see of it: for the benchmarks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import grpc
import numpy as np
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from local.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MODEL = "earshot"
_PAGE = os.sysconf("SC_PAGE_SIZE")

INPUTS: dict[str, tuple[str, int, Any, tuple[int, ...]]] = {
    "serving_default": ("spectrogram", types_pb2.DT_UINT8, np.uint8, (128, 301, 3)),
    "pcm": ("pcm", types_pb2.DT_INT16, np.int16, (48_000,)),
}
"""Input of each signature: its name, type twice, and shape without the batch."""


def request(signature: str = "serving_default", batch: int = 1) -> predict_pb2.PredictRequest:
    """A request of random values, as `tensor_content`."""
    name, number, dtype, shape = INPUTS[signature]
    values = np.random.default_rng(0).integers(0, 256, (batch, *shape)).astype(dtype)
    tensor = tensor_pb2.TensorProto(dtype=number, tensor_content=values.tobytes())
    for size in values.shape:
        tensor.tensor_shape.dim.add(size=size)
    made = predict_pb2.PredictRequest()
    made.model_spec.name = MODEL
    made.model_spec.signature_name = signature
    made.inputs[name].CopyFrom(tensor)
    return made


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs."""

    process: subprocess.Popen[bytes]
    address: str
    channel: grpc.Channel
    start_s: float
    """Seconds from the command to AVAILABLE."""

    def predict(self, asked: predict_pb2.PredictRequest, timeout_s: float = 120) -> predict_pb2.PredictResponse:
        """The answer to a request."""
        return prediction_service_pb2_grpc.PredictionServiceStub(self.channel).Predict(asked, timeout=timeout_s)

    def through(self, channel: grpc.Channel) -> Server:
        """The same server, asked over another connection."""
        return replace(self, channel=channel)

    def states(self) -> dict[int, str]:
        """State of each version, by its number."""
        return _states(self.channel)

    def memory_mb(self) -> float:
        """Memory that the process has now (RSS)."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * _PAGE / 1e6


def _states(channel: grpc.Channel) -> dict[int, str]:
    asked = get_model_status_pb2.GetModelStatusRequest()
    asked.model_spec.name = MODEL
    try:
        answer = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(asked, timeout=10)
    except grpc.RpcError:
        return {}
    names = get_model_status_pb2.ModelVersionStatus.State
    return {each.version: names.Name(each.state) for each in answer.model_version_status}


@contextmanager
def serve(base_path: Path | None, *options: str, variables: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A server with a version available; without a base path it serves the starter model.

    variables: of its environment, besides this process's own.
    """
    port, rest_api_port = free_ports(2)
    command = [sys.executable, "-m", "serving", "--port", str(port), "--rest-api-port", str(rest_api_port), *options]
    if base_path:
        command += ["--model-base-path", str(base_path)]
    started = time.perf_counter()
    with (
        subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, **(variables or {})}) as process,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        try:
            while "AVAILABLE" not in _states(channel).values():
                if process.poll() is not None:
                    raise SystemExit(f"the server ended before its model was available: {' '.join(command)}")
                time.sleep(0.05)
            yield Server(process, f"127.0.0.1:{port}", channel, time.perf_counter() - started)
        finally:
            process.terminate()
