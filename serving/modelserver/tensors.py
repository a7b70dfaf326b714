"""TensorProto to numpy and back.

`tensor_content` becomes an array as it is; the typed fields (`float_val` and so on) are read too, and are what a server
answers with, as TensorFlow Serving does.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from earshot.tfserving import messages
from serving.modelserver.wire import NotReadable, varint

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tensorflow.core.framework import tensor_pb2

    from serving.modelserver.in_place import InPlaceTensor


class InvalidTensor(ValueError):
    """A TensorProto does not hold what its type and shape say; the message says in what."""


_FIELDS: dict[int, tuple[Any, str]] = {
    messages.DataType["DT_FLOAT"]: (np.float32, "float_val"),
    messages.DataType["DT_DOUBLE"]: (np.float64, "double_val"),
    messages.DataType["DT_HALF"]: (np.float16, "half_val"),
    messages.DataType["DT_BFLOAT16"]: (ml_dtypes.bfloat16, "half_val"),
    messages.DataType["DT_INT8"]: (np.int8, "int_val"),
    messages.DataType["DT_INT16"]: (np.int16, "int_val"),
    messages.DataType["DT_INT32"]: (np.int32, "int_val"),
    messages.DataType["DT_INT64"]: (np.int64, "int64_val"),
    messages.DataType["DT_UINT8"]: (np.uint8, "int_val"),
    messages.DataType["DT_UINT16"]: (np.uint16, "int_val"),
    messages.DataType["DT_UINT32"]: (np.uint32, "uint32_val"),
    messages.DataType["DT_UINT64"]: (np.uint64, "uint64_val"),
    messages.DataType["DT_BOOL"]: (np.bool_, "bool_val"),
    messages.DataType["DT_COMPLEX64"]: (np.complex64, "scomplex_val"),
    messages.DataType["DT_COMPLEX128"]: (np.complex128, "dcomplex_val"),
    messages.DataType["DT_STRING"]: (np.object_, "string_val"),
}
"""numpy type and typed field of each tensor type."""

TYPES = {np.dtype(dtype): number for number, (dtype, _) in _FIELDS.items()}
"""Tensor type of each of numpy's."""

_STORED_AS: dict[str, Any] = {"half_val": np.uint16, "scomplex_val": np.float32, "dcomplex_val": np.float64}
"""Fields whose values are the bits or the halves of the tensor's, and in what type."""


LIGHT_BYTES = 1 << 16
"""Up to so much is read or written value by value without holding others up, or so many values; more of it is slow."""
LIGHT_VALUES = LIGHT_BYTES // 4
MOST_DIMENSIONS = 32
"""TensorFlow takes no more than 254, numpy 64, and models a handful."""


def dtype_name(number: int) -> str:
    """`uint8` for DT_UINT8, and so on."""
    known = messages.DATA_TYPES.get(number)
    return known.removeprefix("DT_").lower() if known else f"type {number}"


def numpy_type(number: int) -> np.dtype[Any]:
    """The type of an array of such tensors; raises InvalidTensor where there is none."""
    if number not in _FIELDS:
        raise InvalidTensor(f"tensors of {dtype_name(number)} are not supported")
    dtype: np.dtype[Any] = np.dtype(_FIELDS[number][0])
    return dtype


def to_numpy(proto: tensor_pb2.TensorProto | InPlaceTensor, max_bytes: int) -> NDArray[Any]:
    """The array of `proto`, which shares memory with `tensor_content` where that is aligned; then it is read-only.

    Typed fields are read as TensorFlow reads them: of more values than the shape needs the first ones count, of fewer
    the last one is repeated, and of none all are 0 or empty; up to `max_bytes` in all, so that a few bytes cannot ask
    for a giant array. Raises InvalidTensor where type, shape and values do not fit together.
    """
    dtype = numpy_type(proto.dtype)
    _, field = _FIELDS[proto.dtype]
    shape = _shape(proto)
    count = math.prod(shape)
    if math.prod(max(size, 1) for size in shape) * dtype.itemsize > max_bytes:
        raise InvalidTensor(f"shape {list(shape)} needs more than the {max_bytes} bytes that a request may have")
    content = proto.tensor_content  # each look at it is a copy, unless it is in place
    if content:
        if dtype == np.object_:
            return _packed_strings(bytes(content), count).reshape(shape)
        if len(content) != count * dtype.itemsize:
            raise InvalidTensor(
                f"tensor_content has {len(content)} bytes, "
                f"{dtype_name(proto.dtype)} {list(shape)} needs {count * dtype.itemsize}"
            )
        # Copied where values are not aligned, which not every engine reads.
        return np.require(np.frombuffer(content, dtype=dtype).reshape(shape), requirements="A")
    values = _values(getattr(proto, field), field, dtype)
    if not len(values):
        return np.full(shape, b"", object) if dtype == np.object_ else np.zeros(shape, dtype)
    if len(values) < count:
        if dtype == np.object_ and len(values[-1]) * (count - len(values)) > max_bytes:
            raise InvalidTensor(
                f"{field} repeats its last value to more than the {max_bytes} bytes that a request may have"
            )
        values = np.concatenate([values, np.repeat(values[-1:], count - len(values))])
    return values[:count].reshape(shape)


def slow_to_read(proto: tensor_pb2.TensorProto | InPlaceTensor) -> bool:
    """Whether `to_numpy` takes its time: values of a typed field are read one by one, and strings however they come."""
    if proto.dtype not in _FIELDS or len(proto.tensor_shape.dim) > MOST_DIMENSIONS:  # refused unread
        return False
    dtype, field = _FIELDS[proto.dtype]
    sent = len(getattr(proto, field))
    strings = dtype == np.object_
    count = math.prod(dim.size for dim in proto.tensor_shape.dim) if sent or strings else 0  # the last is repeated
    return max(sent, count) > LIGHT_VALUES or bool(strings and proto.ByteSize() > LIGHT_BYTES)


def from_numpy(array: NDArray[Any], proto: tensor_pb2.TensorProto, *, packed: bool = False) -> None:
    """Fill an empty TensorProto with `array`: in `tensor_content` if packed and no strings, else in the typed field."""
    dtype = array.dtype
    number = TYPES[dtype]
    _, field = _FIELDS[number]
    proto.dtype = number
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if packed and dtype != np.object_:
        proto.tensor_content = array.tobytes()
        return
    flat = np.ascontiguousarray(array).reshape(-1)
    getattr(proto, field).extend((flat.view(_STORED_AS[field]) if field in _STORED_AS else flat).tolist())


def _shape(proto: tensor_pb2.TensorProto | InPlaceTensor) -> tuple[int, ...]:
    if (rank := len(proto.tensor_shape.dim)) > MOST_DIMENSIONS:
        raise InvalidTensor(f"{rank} dimensions are more than the {MOST_DIMENSIONS} that a tensor may have")
    sizes = tuple(dim.size for dim in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in sizes):
        raise InvalidTensor(f"shape {list(sizes)} is not fully known")
    return sizes


def _packed_strings(content: bytes, count: int) -> NDArray[Any]:
    """Strings that lie behind one another, and before them the length of each as a varint, as C++ clients pack them."""
    lengths, at = [], 0
    try:
        for _ in range(count):
            length, at = varint(content, at)
            lengths.append(length)
    except NotReadable as error:
        raise InvalidTensor(f"tensor_content does not begin with the lengths of its strings: {error}") from error
    if at + sum(lengths) != len(content):
        raise InvalidTensor(
            f"tensor_content has {len(content) - at} bytes of strings, their lengths need {sum(lengths)}"
        )
    strings = np.empty(count, object)
    for number, length in enumerate(lengths):
        strings[number] = content[at : at + length]
        at += length
    return strings


def _values(field: Any, name: str, dtype: np.dtype[Any]) -> NDArray[Any]:
    try:
        if name not in _STORED_AS:
            return np.array(list(field), dtype=dtype)
        return np.array(list(field), dtype=_STORED_AS[name]).view(dtype)
    except (OverflowError, ValueError) as error:
        raise InvalidTensor(f"{name} does not hold {dtype}: {error}") from error
