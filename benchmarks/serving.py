"""Times the model server with the starter model: requests of several sizes through both signatures, in turn.

The server runs as a process of its own, as it does in use; the client asks over gRPC, one request after another.

Run: python -m benchmarks.serving [--rounds N] [--model-base-path DIR]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from local.ports import free_ports

BATCHES = (1, 4, 16)
INPUTS: dict[str, tuple[str, int, Any, tuple[int, ...]]] = {
    "serving_default": ("spectrogram", types_pb2.DT_UINT8, np.uint8, (128, 301, 3)),
    "pcm": ("pcm", types_pb2.DT_INT16, np.int16, (48_000,)),
}
"""Input of each signature: its name, type twice, and shape without the batch."""


def request(signature: str, batch: int) -> predict_pb2.PredictRequest:
    """A request of random values, as `tensor_content`."""
    name, number, dtype, shape = INPUTS[signature]
    values = np.random.default_rng(0).integers(0, 256, (batch, *shape)).astype(dtype)
    tensor = tensor_pb2.TensorProto(dtype=number, tensor_content=values.tobytes())
    for size in values.shape:
        tensor.tensor_shape.dim.add(size=size)
    made = predict_pb2.PredictRequest()
    made.model_spec.name = "earshot"
    made.model_spec.signature_name = signature
    made.inputs[name].CopyFrom(tensor)
    return made


def wait_until_serving(channel: grpc.Channel, server: subprocess.Popen[bytes]) -> None:
    """Return when the model is available."""
    health = health_pb2_grpc.HealthStub(channel)
    while server.poll() is None:
        try:
            if health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING:
                return
        except grpc.RpcError:
            pass
        time.sleep(0.2)
    raise SystemExit("the server ended before its model was available")


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--model-base-path", type=Path, help="another model than the starter")
    options = parser.parse_args()
    port, rest_api_port = free_ports(2)
    command = [sys.executable, "-m", "serving", "--port", str(port), "--rest-api-port", str(rest_api_port)]
    if options.model_base_path:
        command += ["--model-base-path", str(options.model_base_path)]
    cases = [(signature, batch) for signature in INPUTS for batch in BATCHES]
    times: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
    with (
        subprocess.Popen(command, stderr=subprocess.DEVNULL) as server,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        try:
            wait_until_serving(channel, server)
            predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
            for turn in range(options.rounds + 1):
                for case in cases:
                    asked = request(*case)
                    started = time.perf_counter()
                    predict(asked, timeout=120)
                    if turn:  # the first is for TensorFlow to settle on a batch size
                        times[case].append(time.perf_counter() - started)
        finally:
            server.terminate()
    print(f"{options.rounds} rounds, medians, {os.cpu_count()} CPUs")
    print(f"{'signature':<16} {'batch':>5} {'latency':>10} {'segments/s':>11}")
    for (signature, batch), values in times.items():
        median = statistics.median(values)
        print(f"{signature:<16} {batch:>5} {1e3 * median:>7.1f} ms {batch / median:>11.1f}")


if __name__ == "__main__":
    main()
