"""ModelService: GetModelStatus, as TensorFlow Serving answers it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tensorflow.core.protobuf import error_codes_pb2
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from serving.errors import not_found

if TYPE_CHECKING:
    from serving.servables import Servables


class ModelService(model_service_pb2_grpc.ModelServiceServicer):  # type: ignore[misc]
    """Answers GetModelStatus; HandleReloadConfigRequest is UNIMPLEMENTED."""

    def __init__(self, servables: Servables) -> None:
        self._servables = servables

    async def GetModelStatus(  # noqa: N802
        self,
        request: get_model_status_pb2.GetModelStatusRequest,
        context: Any,  # noqa: ARG002
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """The state of each version, or of the one asked for."""
        statuses = self._servables.watcher(request).statuses()
        spec = request.model_spec
        if spec.HasField("version"):
            statuses = [status for status in statuses if status.version == spec.version.value]
        if not statuses:
            which = f"version {spec.version.value}" if spec.HasField("version") else "any versions"
            raise not_found(f"Could not find {which} of model {spec.name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for status in statuses:
            answer = response.model_version_status.add(
                version=status.version,
                state=get_model_status_pb2.ModelVersionStatus.State.Value(status.state.value),
            )
            answer.status.error_code = error_codes_pb2.UNKNOWN if status.error else error_codes_pb2.OK
            answer.status.error_message = status.error
        return response
