"""Reads a PredictRequest and leaves what its tensors hold where it came: protobuf would copy all of it twice.

Clients write each input once, and its `tensor_content` once. Such contents are cut out as views of the bytes that came,
and protobuf reads the rest; it reads all of a request that is written in any other way, or that is mostly something
else. (It refuses messages that lie more than a hundred deep in others; in such a tensor two more pass.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from earshot.tfserving import messages
from serving.modelserver.wire import BYTES, NotReadable, fields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tensorflow.core.framework import tensor_pb2
    from tensorflow_serving.apis import model_pb2, predict_pb2

LEAST_BYTES = 1 << 14
"""Of an input whose content is worth being left in place."""

_INPUTS = messages.PredictRequest.DESCRIPTOR.fields_by_name["inputs"].number
_CONTENT = messages.TensorProto.DESCRIPTOR.fields_by_name["tensor_content"].number
_ENTRY = [(1, BYTES), (2, BYTES)]
"""Fields of each entry of a map: its key, its value."""


class InPlaceTensor:
    """What a server reads of a TensorProto: its `tensor_content` is a view of the request, which is kept as long.

    Methods of the whole message do not know the content.
    """

    __slots__ = ("_proto", "tensor_content")

    def __init__(self, proto: tensor_pb2.TensorProto, tensor_content: memoryview) -> None:
        self._proto = proto
        self.tensor_content = tensor_content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._proto, name)


@dataclass(frozen=True, slots=True)
class InPlaceRequest:
    """What a server reads of a PredictRequest, which has a model spec."""

    model_spec: model_pb2.ModelSpec
    inputs: Mapping[str, tensor_pb2.TensorProto | InPlaceTensor]
    output_filter: Sequence[str]


def read_predict_request(raw: bytes) -> predict_pb2.PredictRequest | InPlaceRequest:
    """The request that `raw` holds; raises DecodeError as protobuf does."""
    if len(raw) >= LEAST_BYTES:
        try:
            return _in_place(memoryview(raw))
        except (NotReadable, UnicodeDecodeError, DecodeError):
            pass
    return messages.PredictRequest.FromString(raw)


def _in_place(raw: memoryview) -> InPlaceRequest:
    rest: list[memoryview] = []
    large: dict[str, InPlaceTensor] = {}
    for field in fields(raw):
        if (field.number, field.wire_type) == (_INPUTS, BYTES) and len(field.value) >= LEAST_BYTES:
            name, tensor = _entry(field.value)
            large[name] = tensor  # of an input that comes twice the last one counts
        else:
            rest.append(field.whole)
    if 2 * sum(map(len, rest)) > len(raw):
        raise NotReadable("a view would keep more than it shows")
    request = messages.PredictRequest.FromString(b"".join(rest))
    if not request.HasField("model_spec"):
        raise NotReadable("no model is named, and nothing will be read")
    if not large.keys().isdisjoint(request.inputs):
        raise NotReadable("an input comes twice")
    return InPlaceRequest(request.model_spec, {**request.inputs, **large}, request.output_filter)


def _entry(raw: memoryview) -> tuple[str, InPlaceTensor]:
    """Name and tensor of an input."""
    parts = list(fields(raw))
    if [(part.number, part.wire_type) for part in parts] != _ENTRY:
        raise NotReadable("an input is no name and a tensor")
    return str(parts[0].value, "utf-8"), _tensor(parts[1].value)


def _tensor(raw: memoryview) -> InPlaceTensor:
    parts = list(fields(raw))
    contents = [part.value for part in parts if (part.number, part.wire_type) == (_CONTENT, BYTES)]
    if len(contents) != 1 or 2 * len(contents[0]) < len(raw):
        raise NotReadable("a tensor is not its content for the most part")
    proto = messages.TensorProto.FromString(b"".join(part.whole for part in parts if part.value is not contents[0]))
    if proto.dtype == messages.DataType["DT_STRING"]:  # strings are copied one by one anyway
        raise NotReadable("strings")
    return InPlaceTensor(proto, contents[0])
