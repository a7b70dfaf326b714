"""Writes `descriptors.binpb` from the installed tensorflow-serving-api: `python -m processors.tfserving.regenerate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2

ROOTS = ("predict_pb2", "get_model_metadata_pb2", "get_model_status_pb2")
"""Modules of tensorflow_serving.apis whose messages a client sends or reads."""


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
        add(importlib.import_module(f"tensorflow_serving.apis.{root}").DESCRIPTOR)
    messages = descriptor_pb2.FileDescriptorSet()
    for file in files.values():
        file.CopyToProto(messages.file.add())
    return messages.SerializeToString(deterministic=True)


if __name__ == "__main__":
    Path(__file__).with_name("descriptors.binpb").write_bytes(descriptor_set())
