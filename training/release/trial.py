"""One version on trial: alone in a model server process of its own, as it would be served, and asked over gRPC."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

import grpc

from earshot.tfserving import messages
from local.modelserver import READY_TIMEOUT_S, model_server

if TYPE_CHECKING:
    from pathlib import Path

MODEL_NAME = "earshot"

_POLL_S = 0.2
_ANSWER_S = 10.0

Inputs = dict[str, dict[str, str]]
"""What each signature takes: type and shape of each input, in words."""


class NotServable(RuntimeError):
    """A model server cannot serve a version; the message has what it said."""


class Trial:
    """A version in a fresh server process; a context manager that ends the process."""

    def __init__(self, name: str, version_dir: Path, work_dir: Path) -> None:
        """Prepare the trial of the version in `version_dir`, called `name` where it fails.

        `work_dir`, which does not exist yet, gets the server's log and its base path.
        """
        self.name = name
        base_path = work_dir / "models"
        base_path.mkdir(parents=True)
        (base_path / "1").symlink_to(version_dir.absolute())
        self._child, self.address = model_server(base_path, work_dir / "log")
        self._channel = grpc.insecure_channel(self.address)

    def __enter__(self) -> Self:
        self._child.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        self._child.stop()

    def wait_until_served(self) -> None:
        """Return once the version has loaded and answered its warm-up requests; raises NotServable."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._child.poll() is not None:
                raise NotServable(f"{self.name}: the model server ended with status {self._child.poll()}{self._said()}")
            state, error = self._state()
            if state == "AVAILABLE":
                return
            if error:
                raise NotServable(f"{self.name} cannot be served: {error}")
            time.sleep(_POLL_S)
        raise NotServable(f"{self.name} was not served after {READY_TIMEOUT_S:.0f} s{self._said()}")

    def inputs(self) -> Inputs:
        """What its signatures take; raises NotServable."""
        answer = self.metadata()
        signatures = messages.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(signatures)
        return {
            name: {key: _shown(tensor) for key, tensor in sorted(signature.inputs.items())}
            for name, signature in sorted(signatures.signature_def.items())
        }

    def metadata(self) -> Any:
        """The server's GetModelMetadataResponse; raises NotServable where it has none."""
        request = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = MODEL_NAME
        try:
            return self._call(messages.METADATA_METHOD, messages.GetModelMetadataResponse, request)
        except grpc.RpcError as error:
            raise NotServable(f"{self.name} is served, but its server does not describe it: {error}") from error

    def _state(self) -> tuple[str, str]:
        """The version's state and, where it is broken, why; empty while the server does not answer."""
        request = messages.GetModelStatusRequest()
        request.model_spec.name = MODEL_NAME
        try:
            answer = self._call(messages.STATUS_METHOD, messages.GetModelStatusResponse, request)
        except grpc.RpcError:
            return "", ""
        (status,) = answer.model_version_status
        return messages.VERSION_STATES[status.state], status.status.error_message

    def _call(self, method: str, answer: Any, request: Any) -> Any:
        call = self._channel.unary_unary(
            method, request_serializer=type(request).SerializeToString, response_deserializer=answer.FromString
        )
        return call(request, timeout=_ANSWER_S)

    def _said(self) -> str:
        return "; its last lines:\n" + "\n".join(self._child.tail(10))


def _shown(tensor: Any) -> str:
    """A tensor's type and shape: `uint8 [?, 128, 301, 3]`."""
    kind = messages.DATA_TYPES[tensor.dtype].removeprefix("DT_").lower()
    if tensor.tensor_shape.unknown_rank:
        return f"{kind} of any shape"
    return f"{kind} [{', '.join('?' if dim.size == -1 else str(dim.size) for dim in tensor.tensor_shape.dim)}]"
