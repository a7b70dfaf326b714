"""Requests read in place are the requests that protobuf reads, but for messages that lie a hundred deep in others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import predict_pb2

from earshot.tfserving import messages
from serving.modelserver.in_place import LEAST_BYTES, InPlaceRequest, InPlaceTensor, read_predict_request
from serving.modelserver.tensors import to_numpy

IMAGES = np.arange(2 * LEAST_BYTES, dtype=np.uint32).astype(np.uint8).reshape(2, -1)
INPUTS = b"\x12"
"""Tag of PredictRequest's `inputs`."""


def tensor(array: Any) -> tensor_pb2.TensorProto:
    number = {np.dtype(np.uint8): types_pb2.DT_UINT8, np.dtype(np.float32): types_pb2.DT_FLOAT}[array.dtype]
    proto = tensor_pb2.TensorProto(dtype=number, tensor_content=array.tobytes())
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


def request(**inputs: Any) -> predict_pb2.PredictRequest:
    made = predict_pb2.PredictRequest(output_filter=["scores"])
    made.model_spec.name = "earshot"
    made.model_spec.version.value = 3
    for name, array in inputs.items():
        made.inputs[name].CopyFrom(tensor(array))
    return made


def entry(key: bytes, value: bytes) -> bytes:
    """An input, in the wire format."""
    inside = b"\x0a" + size(key) + key + b"\x12" + size(value) + value
    return INPUTS + size(inside) + inside


def size(raw: bytes) -> bytes:
    """A length, in the wire format."""
    left, written = len(raw), bytearray()
    while left >= 0x80:
        written.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*written, left])


def meaning(read: Any) -> Any:
    """What a server makes of a request."""
    arrays: dict[str, Any] = {}
    for name, proto in read.inputs.items():
        try:
            array = to_numpy(proto, 1 << 24)
            arrays[name] = (array.dtype, array.shape, array.tolist() if array.dtype == object else array.tobytes())
        except ValueError as error:
            arrays[name] = str(error)
    return read.model_spec.SerializeToString(deterministic=True), list(read.output_filter), arrays


def same(raw: bytes) -> Any:
    """What is read of `raw`, which has to be what protobuf alone reads."""
    try:
        right = messages.PredictRequest.FromString(raw)
    except DecodeError:
        with pytest.raises(DecodeError):
            read_predict_request(raw)
        return None
    read = read_predict_request(raw)
    assert meaning(read) == meaning(right)
    return read


def test_large_content_is_a_view_of_what_came() -> None:
    raw = request(images=IMAGES, gain=np.ones(3, np.float32)).SerializeToString()
    read = same(raw)
    assert isinstance(read, InPlaceRequest)
    array = to_numpy(read.inputs["images"], 1 << 24)
    assert np.shares_memory(array, np.frombuffer(raw, np.uint8))
    assert not array.flags.writeable
    assert not isinstance(read.inputs["gain"], InPlaceTensor)


@pytest.mark.parametrize("name", ["x", "xx", "xxx", "xxxx"])
def test_values_that_are_not_aligned_are_copied(name: str) -> None:
    values = np.linspace(0, 1, LEAST_BYTES, dtype=np.float32)
    read = same(request(**{name: values}).SerializeToString())
    array = to_numpy(read.inputs[name], 1 << 24)
    assert array.flags.aligned
    np.testing.assert_array_equal(array, values)


def test_small_requests_and_strings_are_protobufs() -> None:
    small = request(images=IMAGES[:, :100]).SerializeToString()
    assert not isinstance(same(small), InPlaceRequest)
    strings = predict_pb2.PredictRequest()
    strings.inputs["x"].CopyFrom(tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, tensor_content=bytes(LEAST_BYTES)))
    strings.inputs["x"].tensor_shape.dim.add(size=LEAST_BYTES)
    assert not isinstance(same(strings.SerializeToString()), InPlaceRequest)


LARGE = tensor(IMAGES).SerializeToString()
OTHER = tensor(255 - IMAGES).SerializeToString()
SMALL = tensor(np.ones(3, np.float32)).SerializeToString()
UNUSUAL = {
    "an input twice": entry(b"x", LARGE) + entry(b"x", OTHER),
    "the second one small": entry(b"x", LARGE) + entry(b"x", SMALL),
    "the first one small": entry(b"x", SMALL) + entry(b"x", LARGE),
    "content twice": entry(b"x", LARGE + b"\x22" + size(bytes(IMAGES.size)) + (255 - IMAGES).tobytes()),
    "a shape twice": entry(b"x", LARGE + OTHER),
    "most of it something else": entry(b"x", LARGE) + b"\x7a" + size(5 * LARGE) + 5 * LARGE,
    "most of a tensor something else": entry(b"x", LARGE + b"\x82\x01" + size(5 * LARGE) + 5 * LARGE),
    "a name behind its tensor": INPUTS
    + size(b"\x12" + size(LARGE) + LARGE + b"\x0a\x01x")
    + b"\x12"
    + size(LARGE)
    + LARGE
    + b"\x0a\x01x",
    "no name": INPUTS + size(b"\x12" + size(LARGE) + LARGE) + b"\x12" + size(LARGE) + LARGE,
    "no tensor": INPUTS + size(b"\x0a\x01x") + b"\x0a\x01x" + entry(b"y", LARGE),
    "a tensor twice": INPUTS
    + size(b"\x0a\x01x" + 2 * (b"\x12" + size(LARGE) + LARGE))
    + b"\x0a\x01x"
    + 2 * (b"\x12" + size(LARGE) + LARGE),
    "a name that is no text": entry(b"\xff\xfe", LARGE),
    "fields that nobody knows": b"\x78\x01" + entry(b"x", LARGE + b"\x99\x7f12345678") + b"\x7d1234",
    "fields of like numbers": b"\x92\x01\x01x" + entry(b"x", LARGE + b"\xa2\x01\x01y"),
    "a group": b"\x7b\x78\x01\x7c" + entry(b"x", LARGE),
    "a tag of zero": b"\x02\x01x" + entry(b"x", LARGE),
    "hundreds of fields": entry(b"x", LARGE) + 300 * b"\x1a\x01y",
    "typed values": entry(
        b"x", tensor_pb2.TensorProto(dtype=types_pb2.DT_INT32, int_val=[1] * LEAST_BYTES).SerializeToString()
    ),
    "parts of a model's spec": b"\x0a\x03\x0a\x01m" + entry(b"x", LARGE) + b"\x0a\x04\x12\x02\x08\x07",
    "a long length": INPUTS + b"\xff\xff\xff\xff\xff\xff\x01" + entry(b"x", LARGE),
    "cut off": entry(b"x", LARGE)[:-1],
}


@pytest.mark.parametrize("raw", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_whatever_is_written_otherwise_is_read_as_protobuf_reads_it(raw: bytes) -> None:
    same(raw)


@pytest.mark.parametrize("name", ["content twice", "most of it something else", "most of a tensor something else"])
def test_what_a_view_would_keep_for_little_is_copied_and_what_many_fields_hide_is_not_looked_for(name: str) -> None:
    for raw in (UNUSUAL[name], UNUSUAL["hundreds of fields"]):
        assert not isinstance(same(raw), InPlaceRequest)


RIGHT = request(images=IMAGES, gain=np.ones(3, np.float32)).SerializeToString()


@given(
    st.lists(
        st.tuples(st.integers(-120, 120), st.sampled_from(["set", "cut", "again"]), st.binary(min_size=1, max_size=4)),
        min_size=1,
        max_size=3,
    )
)
def test_changed_at_random_it_is_read_as_protobuf_reads_it(changes: list[tuple[int, str, bytes]]) -> None:
    """Near both ends, where everything but the content lies."""
    changed = bytearray(RIGHT)
    for at, kind, new in changes:
        if kind == "set":
            changed[at : at + len(new)] = new
        elif kind == "cut":
            del changed[at : at + len(new)]
        else:
            changed[at:at] = changed[at - 8 : at] or new
    same(bytes(changed))
