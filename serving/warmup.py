"""Warm-up requests, as TensorFlow Serving reads them: a TFRecord of PredictionLog messages beside the SavedModel.

A server sends them through a version before it calls the version available, so that no client waits for the first run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from earshot.tfserving import messages
from serving.failures import BrokenModel, ErrorCode
from serving.layout import WARMUP_FILE
from serving.modelserver.tensors import from_numpy
from serving.tfrecord import read_records, write_records

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from tensorflow_serving.apis import prediction_log_pb2

MOST_REQUESTS = 1000
"""More of them are refused, as TensorFlow Serving does: they would take minutes of each start."""


def write_warmup(version_dir: Path, requests: Mapping[str, Mapping[str, NDArray[Any]]]) -> None:
    """Write one Predict request for each signature of `requests`, from its inputs' arrays by name."""
    logs = []
    for signature, inputs in requests.items():
        log = messages.PredictionLog()
        request = log.predict_log.request
        request.model_spec.signature_name = signature
        for name, array in inputs.items():
            from_numpy(array, request.inputs[name])
        logs.append(log.SerializeToString())
    path = version_dir / WARMUP_FILE
    path.parent.mkdir(exist_ok=True)
    write_records(path, logs)


def read_warmup(version_dir: Path) -> list[prediction_log_pb2.PredictionLog]:
    """The requests to warm `version_dir` up with; none where it brings no file. Raises BrokenRecords, BrokenModel."""
    path = version_dir / WARMUP_FILE
    if not path.is_file():
        return []
    records = read_records(path)
    if len(records) > MOST_REQUESTS:
        raise BrokenModel(
            f"{path} has {len(records)} warm-up requests, and {MOST_REQUESTS} at most are sent; leave some out",
            ErrorCode.INVALID_ARGUMENT,
        )
    try:
        return [messages.PredictionLog.FromString(record) for record in records]
    except DecodeError as error:
        raise BrokenModel(f"{path} has a record that is no PredictionLog", ErrorCode.INVALID_ARGUMENT) from error
