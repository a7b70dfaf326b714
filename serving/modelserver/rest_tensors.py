"""Predict over REST: tensors as JSON, in rows or columns.

A request has a row for each instance (`instances`) or a whole tensor for each input (`inputs`), and is answered in kind
(`predictions`, `outputs`).
"""

from __future__ import annotations

import base64
import math
from itertools import chain
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import numpy as np

from serving.modelserver.errors import ServingError, invalid
from serving.modelserver.rest_json import BASE64, is_base64, short_floats, shown, string, too_big, type_error
from serving.modelserver.tensors import MOST_DIMENSIONS, InvalidTensor, dtype_name, numpy_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray
    from tensorflow.core.protobuf import meta_graph_pb2

ROWS, COLUMNS = "instances", "inputs"
"""Keys of a predict request, one of which it has."""
BYTES_SUFFIX = "_bytes"
"""Ends the names of string outputs that are bytes, and no text."""

_TAKES = {"f": "iuf", "V": "iuf", "i": "iu", "u": "iu", "b": "b"}
"""Kinds of numpy's types whose values each kind of tensor takes; V is bfloat16, which numpy has not itself."""


def has_rows(request: Mapping[str, Any]) -> bool:
    """Whether a predict request has rows, or else columns; raises ServingError where it has neither or both."""
    if ROWS in request and COLUMNS in request:
        raise invalid(
            f"JSON Value: {shown(request)} Not formatted correctly expecting only one of '{COLUMNS}' or '{ROWS}' keys "
            "to exist"
        )
    if ROWS in request:
        return True
    if COLUMNS in request:
        return False
    raise invalid(f"Missing '{COLUMNS}' or '{ROWS}' key")


def predict_inputs(
    request: Mapping[str, Any], signature: meta_graph_pb2.SignatureDef, max_bytes: int
) -> dict[str, NDArray[Any]]:
    """The input tensors of a predict request, by name; raises ServingError."""
    if not signature.inputs:
        raise invalid(f"Failed to get input map for signature: {request.get('signature_name') or 'DEFAULT'}")
    rows = has_rows(request)
    arrays = _from_rows(request[ROWS], signature) if rows else _from_columns(request[COLUMNS], signature)
    for name, array in arrays.items():
        if array.nbytes > max_bytes:
            raise invalid(f"input {name!r} needs more than the {max_bytes} bytes that a request may have")
    return arrays


def predict_answer(outputs: Mapping[str, NDArray[Any]], *, rows: bool) -> dict[str, Any]:
    """The answer to a predict request, in rows or columns; raises ServingError where outputs have no rows in common."""
    named = {name: _to_json(array, name) for name, array in outputs.items()}
    if not rows:
        return {"outputs": next(iter(named.values())) if len(named) == 1 else named}
    size = None
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if size not in {None, len(array)}:
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {size}")
        size = len(array)
    if len(named) == 1:
        return {"predictions": next(iter(named.values()))}
    return {"predictions": [dict(zip(named, row, strict=True)) for row in zip(*named.values(), strict=True)]}


def _from_rows(rows: Any, signature: meta_graph_pb2.SignatureDef) -> dict[str, NDArray[Any]]:
    if not isinstance(rows, list):
        raise invalid(f"JSON Value: {shown(rows)} Expecting '{ROWS}' to be an list/array")
    if not rows:
        raise invalid(f"JSON Value: {shown(rows)} No values in '{ROWS}' array")
    names = sorted(signature.inputs)
    if not _is_object(rows[0]):
        if len(names) > 1:
            raise invalid(
                "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
                "tensorinfo_map"
            )
        for position, row in enumerate(rows):
            if _is_object(row):
                raise invalid(f"Expecting value/list but got object at item {position} of input list")
        return {names[0]: _stacked(rows, signature.inputs[names[0]].dtype, "")}
    for position, row in enumerate(rows):
        _require_named(row, position, names)
    return {name: _stacked([row[name] for row in rows], signature.inputs[name].dtype, name) for name in names}


def _require_named(row: Any, position: int, names: list[str]) -> None:
    """Raise ServingError where a row is no object of a value for each of these inputs."""
    if not _is_object(row):
        raise invalid(f"Expecting object but got list at item {position} of input list")
    for name in row:
        if name not in names:
            raise _refused(position, name, invalid(f"JSON object: does not have named input: {name}"))
    if len(row) < len(names):
        raise invalid(
            f"Failed to process element: {position} of '{ROWS}' list. JSON object: {shown(row)} keys must be equal to: "
            f"{','.join(names)}"
        )


def _stacked(values: list[Any], dtype: int, name: str) -> NDArray[Any]:
    """One tensor of a value for each row; an error names the first row at fault."""
    try:
        return _tensor(values, dtype)
    except ServingError as whole:
        shape: tuple[int, ...] | None = None
        for position, value in enumerate(values):
            try:
                each = _tensor(value, dtype)
                if shape is not None and each.size != math.prod(shape):
                    raise invalid(f"Expecting tensor size: {math.prod(shape)} but got: {each.size}")
                if shape is not None and each.shape != shape:
                    raise invalid(f"Expecting shape {_listed(shape)} but got: {_listed(each.shape)}")
                shape = each.shape
            except ServingError as error:
                raise _refused(position, name, error) from None
        raise whole from None


def _refused(position: int, name: str, error: ServingError) -> ServingError:
    """What is said of a row, of its value for the input `name` if it has several, in TensorFlow Serving's words."""
    key = f" key: {name}" if name else ""
    return invalid(f"Failed to process element: {position}{key} of '{ROWS}' list. Error: {error.code.name}: {error}")


def _from_columns(columns: Any, signature: meta_graph_pb2.SignatureDef) -> dict[str, NDArray[Any]]:
    names = sorted(signature.inputs)
    if not _is_object(columns):
        if len(names) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        return {names[0]: _tensor(columns, signature.inputs[names[0]].dtype)}
    for name in names:
        if name not in columns:
            raise invalid(f"Missing named input: {name} in '{COLUMNS}' object.")
    return {name: _tensor(columns[name], signature.inputs[name].dtype) for name in names}


def _tensor(value: Any, dtype: int) -> NDArray[Any]:
    """The tensor of a value or a list of lists; raises ServingError where it is ragged or of another type."""
    try:
        target = numpy_type(dtype)
    except InvalidTensor as error:
        raise invalid(str(error)) from None
    if target == np.object_:
        return _strings(value)
    if target.kind not in _TAKES:
        words = f"Conversion of JSON Value: {shown(value)} to type: {dtype_name(dtype)}"
        raise ServingError(grpc.StatusCode.UNIMPLEMENTED, words)
    array = _numbers(value, dtype, target)
    if target.kind in "iu" and array.size:
        bounds = np.iinfo(target)
        if array.min() < bounds.min or array.max() > bounds.max:
            _explain(value, dtype)
    with np.errstate(over="ignore"):  # what is too large for a type of floats is infinite
        return array.astype(target)


def _numbers(value: Any, dtype: int, target: np.dtype[Any]) -> NDArray[Any]:
    """The array of numbers, or of booleans, that a tensor of such a type is made of; raises ServingError."""
    try:
        array = np.array(value)
    except (ValueError, OverflowError):
        _explain(value, dtype)
    if array.dtype.kind == "O" and target.kind in "fV":  # whole numbers beyond 64 bits
        array = _doubles(value, dtype)
    if array.dtype.kind in "fO" and target.kind in "iu":  # numpy has no whole numbers for small and large ones together
        _require_leaves(value, dtype)
        array = np.array(value, dtype=target)
    if array.size and array.dtype.kind not in _TAKES[target.kind]:
        _explain(value, dtype)
    if target.kind != "b" and _has_booleans(value, array):
        _explain(value, dtype)
    return array


def _has_booleans(value: Any, array: NDArray[Any]) -> bool:
    """Whether numbers have booleans among them, which `array`, made of `value`, has as 1 and 0."""
    if not ((array == 0) | (array == 1)).any():
        return False
    return bool in map(type, _flat(value, array.ndim))


def _flat(value: Any, rank: int) -> Iterable[Any]:
    """What lists hold that are nested so deep, in order."""
    leaves: Iterable[Any] = [value]
    for _ in range(rank):
        leaves = chain.from_iterable(leaves)
    return leaves


def _doubles(value: Any, dtype: int) -> NDArray[np.float64]:
    """Numbers of whatever size as doubles; raises ServingError."""
    _require_leaves(value, dtype)
    try:
        return np.array(value, dtype=np.float64)
    except OverflowError:
        raise too_big() from None


def _leading_shape(value: Any) -> tuple[int, ...]:
    """The shape that a tensor has whose first values these are; others may not keep to it. Raises ServingError."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    if len(shape) > MOST_DIMENSIONS:
        raise invalid(f"{len(shape)} dimensions are more than the {MOST_DIMENSIONS} that a tensor may have")
    return tuple(shape)


def _strings(value: Any) -> NDArray[Any]:
    shape = _leading_shape(value)
    leaves = [string(leaf) for leaf in _leaves(value, 0, shape)]
    array = np.empty(len(leaves), object)
    array[:] = leaves
    return array.reshape(shape)


def _leaves(value: Any, level: int, shape: tuple[int, ...]) -> Iterator[Any]:
    """What the nested lists hold, in order; raises ServingError at the first place that does not keep to `shape`."""
    if isinstance(value, list):
        _check_list(value, level, shape)
        for each in value:
            yield from _leaves(each, level + 1, shape)
    else:
        _check_level(value, level, shape)
        yield value


def _explain(value: Any, dtype: int) -> NoReturn:
    """Raise ServingError for the first place at which `value` is no tensor of this type."""
    _require_leaves(value, dtype)
    raise invalid(f"JSON Value: {shown(value)} is not a tensor of type: {dtype_name(dtype)}")


def _require_leaves(value: Any, dtype: int) -> None:
    """Raise ServingError for the first place that does not keep to the shape of those before, or to the type."""
    for leaf in _leaves(value, 0, _leading_shape(value)):
        _check_leaf(leaf, dtype)


def _check_leaf(value: Any, dtype: int) -> None:
    target = numpy_type(dtype)
    if target.kind == "b":
        fits = isinstance(value, bool)
    elif target.kind in "fV":
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
    else:
        whole = isinstance(value, int) and not isinstance(value, bool)
        fits = whole and np.iinfo(target).min <= value <= np.iinfo(target).max
    if not fits:
        raise type_error(value, dtype_name(dtype))


def _check_list(value: list[Any], level: int, shape: tuple[int, ...]) -> None:
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )


def _check_level(value: Any, level: int, shape: tuple[int, ...]) -> None:
    if level != len(shape):
        raise invalid(
            f"JSON Value: {shown(value)} found at incorrect level: {level + 1} in the JSON DOM. "
            f"Expected at level: {len(shape)}"
        )


def _to_json(array: NDArray[Any], name: str) -> Any:
    """Lists of lists of what `array` holds; a scalar by itself."""
    if array.dtype.kind == "O":
        text = (
            (lambda value: {BASE64: base64.b64encode(value).decode()})
            if name.endswith(BYTES_SUFFIX)
            else (lambda value: value.decode(errors="replace"))
        )
        values = np.empty(array.shape, object)
        values.ravel()[:] = [text(value) for value in array.ravel()]
        return values.tolist()
    if array.dtype.kind in "iub":
        return array.tolist()
    if array.dtype.kind == "c":
        raise invalid(f"Failed to write JSON value for tensor type: {array.dtype}")
    return short_floats(array).tolist()


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not is_base64(value)


def _listed(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"
