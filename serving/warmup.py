"""Warm-up requests, as TensorFlow Serving reads them: a TFRecord of PredictionLog messages beside the SavedModel.

A server sends them through a version before it calls the version available, so that no client waits for the first run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving.layout import WARMUP_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray


def write_warmup(version_dir: Path, requests: Mapping[str, Mapping[str, NDArray[Any]]]) -> None:
    """Write one Predict request for each signature of `requests`, from its inputs' arrays by name."""
    path = version_dir / WARMUP_FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests.items():
            request = predict_pb2.PredictRequest()
            request.model_spec.signature_name = signature
            for name, array in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())


def read_warmup(version_dir: Path) -> list[prediction_log_pb2.PredictionLog]:
    """The requests to warm `version_dir` up with; none where it brings no file."""
    path = version_dir / WARMUP_FILE
    if not path.is_file():
        return []
    records = tf.data.TFRecordDataset(str(path))
    return [prediction_log_pb2.PredictionLog.FromString(record.numpy()) for record in records]
