"""Messages of TensorFlow Serving's configuration files that its Python package does not bring.

Their fields have the names and types of TensorFlow Serving's own, so its files in protobuf's text format can be read.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

_PACKAGE = "earshot.serving"
_KINDS = descriptor_pb2.FieldDescriptorProto

_FIELDS: dict[str, dict[str, str]] = {
    "BatchingParameters": {
        "max_batch_size": "Int64Value",
        "batch_timeout_micros": "Int64Value",
        "max_enqueued_batches": "Int64Value",
        "num_batch_threads": "Int64Value",
        "thread_pool_name": "StringValue",
        "allowed_batch_sizes": "repeated int64",
        "pad_variable_length_inputs": "bool",
        "enable_large_batch_splitting": "BoolValue",
        "max_execution_batch_size": "Int64Value",
    },
    "PrometheusConfig": {"enable": "bool", "path": "string"},
    "MonitoringConfig": {"prometheus_config": "PrometheusConfig"},
    "SSLConfig": {"server_key": "string", "server_cert": "string", "custom_ca": "string", "client_verify": "bool"},
}
"""Fields of each message, by name, with their types."""

_SCALARS = {"int64": _KINDS.TYPE_INT64, "bool": _KINDS.TYPE_BOOL, "string": _KINDS.TYPE_STRING}


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="earshot/serving/configuration.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for number, (field, described) in enumerate(fields.items(), 1):
            *repeated, kind = described.split()
            added = message.field.add(
                name=field, number=number, label=_KINDS.LABEL_REPEATED if repeated else _KINDS.LABEL_OPTIONAL
            )
            if kind in _SCALARS:
                added.type = _SCALARS[kind]
            else:
                added.type = _KINDS.TYPE_MESSAGE
                added.type_name = f".{_PACKAGE}.{kind}" if kind in _FIELDS else f".google.protobuf.{kind}"
    return file


_POOL = descriptor_pool.Default()
_POOL.AddSerializedFile(_file().SerializeToString())


def _class(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


BatchingParameters = _class("BatchingParameters")
MonitoringConfig = _class("MonitoringConfig")
SSLConfig = _class("SSLConfig")
