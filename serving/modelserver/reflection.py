"""gRPC's server reflection, as late versions of TensorFlow Serving have it: tools like grpcurl need no .proto files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from earshot.tfserving.messages import descriptor_pool

if TYPE_CHECKING:
    from collections.abc import Iterable


def add_reflection(server: Any, services: Iterable[str]) -> None:
    """Have `server` describe what it serves.

    services: full names, of TensorFlow Serving's services or gRPC's health.
    """
    pool = descriptor_pool()  # a new one, as gRPC's files are nothing that `messages` has
    for module in (health_pb2, reflection_pb2):
        file = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        pool.Add(file)
    reflection.enable_server_reflection((*services, reflection.SERVICE_NAME), server, pool=pool)
