"""Writes `descriptors.binpb` from the installed tensorflow-serving-api: `python -m earshot.tfserving.regenerate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2

_APIS = "tensorflow_serving.apis"
ROOTS = (
    *(f"{_APIS}.{name}_pb2" for name in ("predict", "classification", "regression", "inference", "prediction_log")),
    *(f"{_APIS}.{name}_pb2" for name in ("get_model_metadata", "get_model_status", "model_management")),
    *(f"{_APIS}.{name}_pb2" for name in ("prediction_service", "model_service")),
    "tensorflow.core.protobuf.saved_model_pb2",
)
"""Modules whose messages clients and servers send or read, and whose services servers describe."""


def descriptor_set() -> bytes:
    """The roots' files and all that they import, each after its imports, as a serialised FileDescriptorSet."""
    import importlib

    files: dict[str, Any] = {}

    def add(file: Any) -> None:
        if file.name not in files:
            for imported in file.dependencies:
                add(imported)
            files[file.name] = file

    for root in ROOTS:
        add(importlib.import_module(root).DESCRIPTOR)
    messages = descriptor_pb2.FileDescriptorSet()
    for file in files.values():
        file.CopyToProto(messages.file.add())
    return messages.SerializeToString(deterministic=True)


if __name__ == "__main__":
    Path(__file__).with_name("descriptors.binpb").write_bytes(descriptor_set())
