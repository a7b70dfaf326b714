"""The models a server offers, by name: finds the loaded version that a request's ModelSpec asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from serving.errors import ServingError, invalid, not_found

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tensorflow.core.protobuf import meta_graph_pb2
    from tensorflow_serving.apis import model_pb2

    from serving.versions import Loaded, VersionWatcher


class Servables:
    """The watcher of each model."""

    def __init__(self, watchers: Mapping[str, VersionWatcher]) -> None:
        self.watchers = watchers

    def watcher(self, request: Any) -> VersionWatcher:
        """The watcher of the model that `request` names; raises ServingError without one."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        if not request.model_spec.name:
            raise invalid("ModelSpec has no model name specified.")
        name = request.model_spec.name
        if name not in self.watchers:
            raise _absent(request.model_spec, f"served here: {', '.join(self.watchers)}")
        return self.watchers[name]

    def find(self, request: Any) -> Loaded:
        """The loaded version that `request` asks for; raises ServingError where it is not served."""
        loaded = self.watcher(request).loaded
        spec: model_pb2.ModelSpec = request.model_spec
        if spec.WhichOneof("version_choice") == "version_label":
            raise invalid(f"Unrecognized servable version label: {spec.version_label}")
        if loaded is None:
            raise _absent(spec, "no version is available yet")
        if spec.HasField("version") and spec.version.value != loaded.version:
            raise _absent(spec, f"version {loaded.version} is served")
        return loaded


def _absent(spec: model_pb2.ModelSpec, why: str) -> ServingError:
    """TensorFlow Serving's words for what it does not serve, and why that is so here."""
    asked = f"Specific({spec.name}, {spec.version.value})" if spec.HasField("version") else f"Latest({spec.name})"
    return not_found(f"Servable not found for request: {asked}; {why}")


def signature_of(loaded: Loaded, name: str) -> meta_graph_pb2.SignatureDef:
    """The signature named `name`; raises ServingError (FAILED_PRECONDITION) where the model has none of that name."""
    if name not in loaded.engine.signature_defs:
        known = ", ".join(sorted(loaded.engine.signature_defs))
        raise ServingError(
            grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found; the model has {known}.'
        )
    return loaded.engine.signature_defs[name]
