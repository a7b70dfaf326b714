"""gRPC's server reflection, as TensorFlow Serving has it: tools such as grpcurl need no .proto files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from earshot.tfserving.messages import descriptor_pool

if TYPE_CHECKING:
    from collections.abc import Iterable


def add_reflection(server: Any, services: Iterable[str]) -> None:
    """Have `server` describe these services, full names of TensorFlow Serving's and gRPC's own, and reflection."""
    pool = descriptor_pool()
    for own in (health_pb2, reflection_pb2):
        file = descriptor_pb2.FileDescriptorProto()
        own.DESCRIPTOR.CopyToProto(file)
        pool.Add(file)
    reflection.enable_server_reflection((*services, reflection.SERVICE_NAME), server, pool=pool)
