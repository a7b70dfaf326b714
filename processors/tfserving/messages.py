"""TensorFlow Serving's gRPC messages: light stubs that need protobuf and grpcio only.

The package tensorflow-serving-api holds the same messages, but it depends on TensorFlow, which takes seconds to import
and hundreds of megabytes. Here the same descriptors are read from one small file into a descriptor pool of their own,
so that they stand beside TensorFlow's in one process. `python -m processors.tfserving.regenerate` writes that file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

DESCRIPTORS_PATH = Path(__file__).with_name("descriptors.binpb")
"""A serialised FileDescriptorSet, each file after those it imports."""

PREDICT_METHOD = "/tensorflow.serving.PredictionService/Predict"
METADATA_METHOD = "/tensorflow.serving.PredictionService/GetModelMetadata"
STATUS_METHOD = "/tensorflow.serving.ModelService/GetModelStatus"


def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS_PATH.read_bytes()).file:
        pool.Add(file)
    return pool


_POOL = _pool()


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))


PredictRequest = _message("tensorflow.serving.PredictRequest")
PredictResponse = _message("tensorflow.serving.PredictResponse")
GetModelMetadataRequest = _message("tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse = _message("tensorflow.serving.GetModelMetadataResponse")
SignatureDefMap = _message("tensorflow.serving.SignatureDefMap")
GetModelStatusRequest = _message("tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse = _message("tensorflow.serving.GetModelStatusResponse")

DataType = _POOL.FindEnumTypeByName("tensorflow.DataType").values_by_name
DT_FLOAT: int = DataType["DT_FLOAT"].number
DT_UINT8: int = DataType["DT_UINT8"].number
DATA_TYPES = _POOL.FindEnumTypeByName("tensorflow.DataType").values_by_number
VERSION_STATES = _POOL.FindEnumTypeByName("tensorflow.serving.ModelVersionStatus.State").values_by_number
