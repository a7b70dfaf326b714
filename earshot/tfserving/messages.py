"""TensorFlow Serving's gRPC messages: light stubs that need protobuf and grpcio only.

The package tensorflow-serving-api holds the same messages, but it depends on TensorFlow, which takes seconds to import
and hundreds of megabytes. Here the same descriptors are read from one small file into a descriptor pool of their own,
so that they stand beside TensorFlow's in one process. `python -m earshot.tfserving.regenerate` writes that file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor_pool import DescriptorPool

DESCRIPTORS_PATH = Path(__file__).with_name("descriptors.binpb")
"""A serialised FileDescriptorSet, each file after those it imports."""

PREDICT_METHOD = "/tensorflow.serving.PredictionService/Predict"
METADATA_METHOD = "/tensorflow.serving.PredictionService/GetModelMetadata"
STATUS_METHOD = "/tensorflow.serving.ModelService/GetModelStatus"


def descriptor_pool() -> DescriptorPool:
    """A new pool of all of TensorFlow Serving's messages and services that clients and servers need."""
    pool = DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS_PATH.read_bytes()).file:
        pool.Add(file)
    return pool


_POOL = descriptor_pool()


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))


PredictRequest = _message("tensorflow.serving.PredictRequest")
PredictResponse = _message("tensorflow.serving.PredictResponse")
ClassificationRequest = _message("tensorflow.serving.ClassificationRequest")
ClassificationResponse = _message("tensorflow.serving.ClassificationResponse")
ClassificationResult = _message("tensorflow.serving.ClassificationResult")
RegressionRequest = _message("tensorflow.serving.RegressionRequest")
RegressionResponse = _message("tensorflow.serving.RegressionResponse")
RegressionResult = _message("tensorflow.serving.RegressionResult")
MultiInferenceRequest = _message("tensorflow.serving.MultiInferenceRequest")
MultiInferenceResponse = _message("tensorflow.serving.MultiInferenceResponse")
Input = _message("tensorflow.serving.Input")
ModelSpec = _message("tensorflow.serving.ModelSpec")
GetModelMetadataRequest = _message("tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse = _message("tensorflow.serving.GetModelMetadataResponse")
SignatureDefMap = _message("tensorflow.serving.SignatureDefMap")
GetModelStatusRequest = _message("tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse = _message("tensorflow.serving.GetModelStatusResponse")
ReloadConfigRequest = _message("tensorflow.serving.ReloadConfigRequest")
ReloadConfigResponse = _message("tensorflow.serving.ReloadConfigResponse")
ModelServerConfig = _message("tensorflow.serving.ModelServerConfig")
PredictionLog = _message("tensorflow.serving.PredictionLog")
SavedModel = _message("tensorflow.SavedModel")
TensorProto = _message("tensorflow.TensorProto")


def _enum(name: str) -> dict[str, int]:
    return {value.name: value.number for value in _POOL.FindEnumTypeByName(name).values}


DataType = _enum("tensorflow.DataType")
VersionState = _enum("tensorflow.serving.ModelVersionStatus.State")
ModelType = _enum("tensorflow.serving.ModelType")
DATA_TYPES = {number: name for name, number in DataType.items()}
VERSION_STATES = {number: name for name, number in VersionState.items()}
DT_FLOAT = DataType["DT_FLOAT"]
DT_UINT8 = DataType["DT_UINT8"]
