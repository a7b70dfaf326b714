from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2

from serving.modelserver.tensors import LIGHT_VALUES, InvalidTensor, from_numpy, slow_to_read, to_numpy


def proto_of(array: Any) -> tensor_pb2.TensorProto:
    proto = tensor_pb2.TensorProto()
    from_numpy(array, proto)
    return proto


ARRAYS: list[Any] = [
    np.array([[1.5, -2.0], [0.0, np.inf]], np.float32),
    np.array([1.5, -2.0], np.float64),
    np.array([1.5, -2.0], np.float16),
    np.array([1.5, -2.0], ml_dtypes.bfloat16),
    np.array([-128, 127], np.int8),
    np.array([-5, 6], np.int16),
    np.array([[[-5]]], np.int32),
    np.array([-5, 2**62], np.int64),
    np.array([0, 255], np.uint8),
    np.array([0, 65535], np.uint16),
    np.array([0, 2**32 - 1], np.uint32),
    np.array([0, 2**64 - 1], np.uint64),
    np.array([True, False]),
    np.array([1 + 2j, -3j], np.complex64),
    np.array([1 + 2j, -3j], np.complex128),
    np.array(7, np.int32),
    np.zeros((0, 3), np.float32),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.dtype))
def test_arrays_come_back_through_typed_fields_and_tensorflow_reads_the_same(array: Any) -> None:
    proto = proto_of(array)
    back = to_numpy(proto, 1 << 20)
    assert not proto.tensor_content
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)
    np.testing.assert_array_equal(tf.make_ndarray(proto), array)


@pytest.mark.parametrize("array", [each for each in ARRAYS if each.size > 1], ids=lambda array: str(array.dtype))
def test_tensor_content_becomes_an_array_without_another_copy(array: Any) -> None:
    proto = tensor_pb2.TensorProto(dtype=proto_of(array).dtype, tensor_content=array.tobytes())
    proto.tensor_shape.CopyFrom(proto_of(array).tensor_shape)
    back = to_numpy(proto, 1 << 20)
    assert not back.flags.owndata
    np.testing.assert_array_equal(back, array)


def test_only_what_is_read_value_by_value_is_slow() -> None:
    many = 1 + LIGHT_VALUES
    for dtype in (np.float32, np.uint8, np.float16, np.int64):
        assert slow_to_read(proto_of(np.zeros(many, dtype)))
        assert not slow_to_read(proto_of(np.zeros(many - 1, dtype)))
    repeated = proto_of(np.zeros(1, np.uint8))
    repeated.tensor_shape.dim[0].size = many
    assert slow_to_read(repeated)
    assert not slow_to_read(tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_content=bytes(4 * many)))
    assert slow_to_read(tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, tensor_content=bytes(4 * many)))
    assert not slow_to_read(tensor_pb2.TensorProto(dtype=types_pb2.DT_VARIANT))


def test_a_shape_of_very_many_dimensions_is_refused_before_it_is_multiplied() -> None:
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[1.0])
    proto.tensor_shape.dim.extend([tensor_shape_pb2.TensorShapeProto.Dim(size=2**63 - 1)] * 100_000)
    assert not slow_to_read(proto)  # it took half a minute of the event loop
    with pytest.raises(InvalidTensor, match="100000 dimensions are more than the 32"):
        to_numpy(proto, 1 << 20)


def test_strings_come_back() -> None:
    array = np.array([[b"dog", b"\xff\x00"]], dtype=object)
    back = to_numpy(proto_of(array), 1 << 20)
    assert back.tolist() == array.tolist()


def test_a_shorter_field_repeats_its_last_value() -> None:
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[1.0, 2.0])
    proto.tensor_shape.dim.add(size=4)
    assert to_numpy(proto, 1 << 20).tolist() == tf.make_ndarray(proto).tolist() == [1.0, 2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("fields", "sizes"),
    [
        ({"dtype": types_pb2.DT_FLOAT}, [3]),
        ({"dtype": types_pb2.DT_INT64}, []),
        ({"dtype": types_pb2.DT_STRING}, [2]),
        ({"dtype": types_pb2.DT_FLOAT, "float_val": [1.0, 2.0, 3.0]}, [2]),
        ({"dtype": types_pb2.DT_STRING, "string_val": [b"a", b"b"]}, [1]),
        ({"dtype": types_pb2.DT_STRING, "tensor_content": b"\x01\x00\x81\x01a" + b"b" * 129}, [3]),
        ({"dtype": types_pb2.DT_STRING, "tensor_content": b"\x02ab"}, []),
    ],
)
def test_fields_are_read_as_tensorflow_reads_them(fields: dict[str, Any], sizes: list[int]) -> None:
    proto = tensor_pb2.TensorProto(**fields)
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    expected = tf.io.parse_tensor(proto.SerializeToString(), fields["dtype"]).numpy()
    read = to_numpy(proto, 1 << 20)
    assert read.shape == np.shape(expected)
    assert read.tolist() == (expected if isinstance(expected, bytes) else expected.tolist())


@pytest.mark.parametrize(
    ("fields", "sizes", "message"),
    [
        ({"dtype": types_pb2.DT_FLOAT, "float_val": [1.0]}, [1 << 40], "needs more than"),
        ({"dtype": types_pb2.DT_FLOAT, "tensor_content": b"123"}, [1], "has 3 bytes"),
        ({"dtype": types_pb2.DT_UINT8, "int_val": [256]}, [1], "int_val"),
        ({"dtype": types_pb2.DT_STRING, "tensor_content": b"\x05abc"}, [1], "has 3 bytes of strings, .* need 5"),
        ({"dtype": types_pb2.DT_STRING, "tensor_content": b"\x01"}, [2], "does not begin with the lengths"),
        ({"dtype": types_pb2.DT_STRING, "tensor_content": b"\xff" * 9}, [1], "does not begin with the lengths"),
        ({"dtype": types_pb2.DT_RESOURCE}, [1], "resource are not supported"),
        ({"dtype": 9999}, [1], "type 9999"),
        ({"dtype": types_pb2.DT_FLOAT, "float_val": [1.0]}, [-1], "not fully known"),
    ],
)
def test_what_does_not_fit_together_is_refused(fields: dict[str, Any], sizes: list[int], message: str) -> None:
    proto = tensor_pb2.TensorProto(**fields)
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    with pytest.raises(InvalidTensor, match=message):
        to_numpy(proto, 1 << 20)


def test_a_repeated_string_may_not_fill_the_memory() -> None:
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[b"x" * 1000])
    proto.tensor_shape.dim.add(size=100)
    with pytest.raises(InvalidTensor, match="repeats its last value"):
        to_numpy(proto, 50_000)
    assert to_numpy(proto, 200_000).tolist() == [b"x" * 1000] * 100
