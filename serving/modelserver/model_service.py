"""ModelService over gRPC: which versions stand where, and which models are offered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc

from earshot.logs import get_log
from earshot.tfserving import messages
from serving.modelserver.errors import ServingError, invalid, not_found
from serving.modelserver.model_config import InvalidConfig, models_of
from serving.modelserver.prediction_service import require_spec, unary

if TYPE_CHECKING:
    from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2

    from serving.modelserver.servables import Servables

log = get_log(__name__)


class ModelService:
    """Answers GetModelStatus and HandleReloadConfigRequest."""

    NAME = "tensorflow.serving.ModelService"

    def __init__(self, servables: Servables) -> None:
        self._servables = servables

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """What answers each method, for gRPC."""
        return {
            "GetModelStatus": unary(
                self.get_model_status, messages.GetModelStatusRequest, messages.GetModelStatusResponse
            ),
            "HandleReloadConfigRequest": unary(
                self.reload_config, messages.ReloadConfigRequest, messages.ReloadConfigResponse
            ),
        }

    async def get_model_status(
        self,
        request: get_model_status_pb2.GetModelStatusRequest,
        context: Any,  # noqa: ARG002
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """The state of each version, or of the one asked for."""
        return model_status(self._servables, request)

    async def reload_config(
        self,
        request: model_management_pb2.ReloadConfigRequest,
        context: Any,  # noqa: ARG002
    ) -> model_management_pb2.ReloadConfigResponse:
        """Offer the models of the request and no others; answered as `Servables.reload` returns."""
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            )
        try:
            models = models_of(request.config)
        except InvalidConfig as error:
            raise invalid(str(error)) from None
        log.info("models to offer", models=[model.name for model in models])
        reload = asyncio.ensure_future(self._servables.reload(models))
        reload.add_done_callback(_tell_refusal)
        # The client's deadline ends its wait and not the reload, as in TensorFlow Serving.
        await asyncio.shield(reload)
        response = messages.ReloadConfigResponse()
        response.status.error_code = grpc.StatusCode.OK.value[0]
        return response


def _tell_refusal(reload: asyncio.Future[None]) -> None:
    """Say in the log why models stay as they were: the client may wait no longer. A later one tells of itself."""
    error = None if reload.cancelled() else reload.exception()
    if isinstance(error, ServingError):
        if error.code is not grpc.StatusCode.ABORTED:
            log.warning("models stay as they were", error=error.message[:500])
    elif error is not None:
        log.error("models stay as they were", exc_info=error)


def model_status(
    servables: Servables, request: get_model_status_pb2.GetModelStatusRequest
) -> get_model_status_pb2.GetModelStatusResponse:
    """Where a model's versions stand; raises ServingError where there are none."""
    require_spec(request)
    spec = request.model_spec
    wanted = servables.version(spec)
    statuses = servables.statuses(spec.name)
    if wanted is not None:
        statuses = [status for status in statuses if status.version == wanted]
    if not statuses:
        raise _no_version(spec.name, wanted)
    response = messages.GetModelStatusResponse()
    for status in statuses:
        answer = response.model_version_status.add(
            version=status.version,
            state=messages.VersionState[status.state.value],
        )
        answer.status.error_code = status.code
        answer.status.error_message = status.error
    return response


def _no_version(model: str, version: int | None) -> Exception:
    which = "any versions" if version is None else f"version {version}"
    return not_found(f"Could not find {which} of model {model}")
