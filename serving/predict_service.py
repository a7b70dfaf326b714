"""PredictionService: Predict and GetModelMetadata, as TensorFlow Serving answers them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

from serving.errors import ServingError, invalid, status_code
from serving.servables import Servables, signature_of
from serving.signatures import DEFAULT_SIGNATURE, chosen_outputs, decode_inputs
from serving.tensors import from_numpy

if TYPE_CHECKING:
    from serving.inference_pool import InferencePool
    from serving.versions import Loaded

SIGNATURE_FIELD = "signature_def"
"""The one metadata field that GetModelMetadata knows."""


class PredictService(prediction_service_pb2_grpc.PredictionServiceServicer):  # type: ignore[misc]
    """Answers Predict and GetModelMetadata; Classify, Regress and MultiInference are UNIMPLEMENTED."""

    def __init__(self, servables: Servables, pool: InferencePool, max_bytes: int) -> None:
        self._servables = servables
        self._pool = pool
        self._max_bytes = max_bytes

    async def Predict(self, request: predict_pb2.PredictRequest, context: Any) -> predict_pb2.PredictResponse:  # noqa: ARG002, N802
        """Outputs of one batch."""
        # Found here, so that a version that is swapped out while the request waits still answers it.
        loaded = self._servables.find(request)
        return await self._pool.run(predict, request, loaded, self._max_bytes)

    async def GetModelMetadata(  # noqa: N802
        self,
        request: get_model_metadata_pb2.GetModelMetadataRequest,
        context: Any,  # noqa: ARG002
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """The signatures of a version."""
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != SIGNATURE_FIELD:
                raise invalid(f"Metadata field {field} is not supported")
        loaded = self._servables.find(request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in loaded.engine.signature_defs.items():
            signatures.signature_def[name].CopyFrom(signature)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = loaded.version
        response.metadata[SIGNATURE_FIELD].Pack(signatures)
        return response


def predict(request: predict_pb2.PredictRequest, loaded: Loaded, max_bytes: int) -> predict_pb2.PredictResponse:
    """Check `request`, run it in `loaded`, and encode the outputs it asks for; raises ServingError."""
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = signature_of(loaded, name)
    outputs = chosen_outputs(signature, request.output_filter)
    inputs = decode_inputs(signature, request.inputs, max_bytes)
    try:
        arrays = loaded.engine.run(name, inputs)
    except tf.errors.OpError as error:
        raise ServingError(status_code(error.error_code), str(error.message)) from error
    response = predict_pb2.PredictResponse()
    response.model_spec.name = request.model_spec.name
    response.model_spec.version.value = loaded.version
    response.model_spec.signature_name = name
    for output in outputs:
        response.outputs[output].CopyFrom(from_numpy(arrays[output]))
    return response
