"""PredictionService over gRPC: all of its methods, as TensorFlow Serving answers them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from earshot.tfserving import messages
from serving.modelserver.errors import invalid
from serving.modelserver.in_place import InPlaceRequest, read_predict_request

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        inference_pb2,
        predict_pb2,
        regression_pb2,
    )

    from serving.modelserver.inference import Inference
    from serving.modelserver.servables import Servables

SIGNATURE_FIELD = "signature_def"
"""The one metadata field that GetModelMetadata knows."""


class PredictionService:
    """Answers every method of the service."""

    NAME = "tensorflow.serving.PredictionService"

    def __init__(self, servables: Servables, inference: Inference) -> None:
        self._servables = servables
        self._inference = inference

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """What answers each method, for gRPC."""
        return {
            "Predict": grpc.unary_unary_rpc_method_handler(
                self.predict, read_predict_request, messages.PredictResponse.SerializeToString
            ),
            "Classify": unary(self.classify, messages.ClassificationRequest, messages.ClassificationResponse),
            "Regress": unary(self.regress, messages.RegressionRequest, messages.RegressionResponse),
            "MultiInference": unary(
                self.multi_inference, messages.MultiInferenceRequest, messages.MultiInferenceResponse
            ),
            "GetModelMetadata": unary(
                self.get_model_metadata, messages.GetModelMetadataRequest, messages.GetModelMetadataResponse
            ),
        }

    async def predict(
        self,
        request: predict_pb2.PredictRequest | InPlaceRequest,
        context: Any,  # noqa: ARG002
    ) -> predict_pb2.PredictResponse:
        """Outputs of one batch."""
        if not isinstance(request, InPlaceRequest):
            require_spec(request)
        return await self._inference.predict(request)

    async def classify(
        self,
        request: classification_pb2.ClassificationRequest,
        context: Any,  # noqa: ARG002
    ) -> classification_pb2.ClassificationResponse:
        """Labels and scores of examples."""
        require_spec(request)
        return await self._inference.classify(request)

    async def regress(
        self,
        request: regression_pb2.RegressionRequest,
        context: Any,  # noqa: ARG002
    ) -> regression_pb2.RegressionResponse:
        """Values of examples."""
        require_spec(request)
        return await self._inference.regress(request)

    async def multi_inference(
        self,
        request: inference_pb2.MultiInferenceRequest,
        context: Any,  # noqa: ARG002
    ) -> inference_pb2.MultiInferenceResponse:
        """Results of several signatures over the same examples."""
        return await self._inference.multi_inference(request)

    async def get_model_metadata(
        self,
        request: get_model_metadata_pb2.GetModelMetadataRequest,
        context: Any,  # noqa: ARG002
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """The signatures of a version."""
        return model_metadata(self._servables, request)


def require_spec(request: Message) -> None:
    """Raise ServingError where a request says nothing of a model."""
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")


def unary(answer: Any, request: Any, response: Any) -> grpc.RpcMethodHandler[Any, Any]:
    """A method of one request and one response, each of this message class."""
    return grpc.unary_unary_rpc_method_handler(answer, request.FromString, response.SerializeToString)


def model_metadata(
    servables: Servables, request: get_model_metadata_pb2.GetModelMetadataRequest
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """What is known about a version; raises ServingError."""
    require_spec(request)
    if not request.metadata_field:
        raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != SIGNATURE_FIELD:
            raise invalid(f"Metadata field {field} is not supported")
    with servables.lease(request.model_spec) as loaded:
        signatures = messages.SignatureDefMap()
        for name, signature in loaded.engine.signature_defs.items():
            signatures.signature_def[name].CopyFrom(signature)
        response = messages.GetModelMetadataResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = loaded.version
        packed = response.metadata[SIGNATURE_FIELD]
        packed.type_url = f"type.googleapis.com/{signatures.DESCRIPTOR.full_name}"
        packed.value = signatures.SerializeToString()
        return response
