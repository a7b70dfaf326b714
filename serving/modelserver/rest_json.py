"""JSON as TensorFlow Serving's REST API reads and shows it.

Bytes are `{"b64": "..."}`; NaN, Infinity and -Infinity are numbers here, as they are there.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from serving.modelserver.errors import ServingError, invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

BASE64 = "b64"

_MOST_SHOWN = 200
"""Characters of a value that an error shows."""


def parse(body: bytes | bytearray) -> dict[str, Any]:
    """The object in the body of a request; raises ServingError."""
    end = body.find(0)  # as in TensorFlow Serving, which is written in C++
    if end >= 0:
        body = body[:end]
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        parsed = json.loads(body)
    except json.JSONDecodeError as error:
        what = error.msg.replace("Expecting value", "Invalid value.")
        raise invalid(f"JSON Parse error: {what} at offset: {error.pos}") from None
    except UnicodeDecodeError as error:
        raise invalid(f"JSON Parse error: {error.reason} at offset: {error.start}") from None
    except RecursionError:
        raise invalid("JSON Parse error: nested too deeply") from None
    except ValueError as error:  # a number of thousands of digits
        raise invalid(f"JSON Parse error: {error}") from None
    if not isinstance(parsed, dict):
        raise invalid(f"JSON Value: {shown(parsed)} Is not object")
    return parsed


def signature_name(request: Mapping[str, Any]) -> str:
    """The signature that a request names, empty without one; raises ServingError."""
    name = request.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {shown(request)} not formatted correctly. 'signature_name' key must be a string value."
        )
    utf8(name)
    return name


def string(value: Any) -> bytes:
    """The bytes of a string, or of `{"b64": "..."}`; raises ServingError for anything else."""
    if isinstance(value, str):
        return utf8(value)
    if not isinstance(value, dict):
        raise type_error(value, "string")
    if not is_base64(value):
        raise invalid(f"JSON Value: {shown(value)} not formatted correctly for base64 data")
    # Lines may be broken, and the padding may be left out, or be of dots.
    text = "".join(value[BASE64].split())
    bare = text.rstrip("=.")
    padding = -len(bare) % 4
    try:
        if len(text) - len(bare) not in {0, padding}:
            raise ValueError(text)
        return base64.b64decode(bare + "=" * padding, validate=True)
    except (binascii.Error, ValueError):
        raise invalid("Unable to base64 decode") from None


def is_base64(value: Any) -> bool:
    """Whether it is `{"b64": "..."}`, which is no object as others are."""
    return isinstance(value, dict) and value.keys() == {BASE64} and isinstance(value[BASE64], str)


def utf8(text: str) -> bytes:
    """The bytes of a text; raises ServingError where it has none."""
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        raise invalid(f"JSON Value: {shown(text)} is no text in Unicode") from None


def short_floats(array: NDArray[Any]) -> NDArray[np.float64]:
    """Doubles whose digits are the shortest that tell the values of `array` apart: 0.2, not 0.20000000298."""
    if array.dtype == np.float64:
        return array
    return array.astype(np.float32).astype("U32").astype(np.float64)


def kind_of(value: Any) -> str:
    """What JSON calls a value of this type."""
    if isinstance(value, bool):
        return str(value)
    kinds = ((dict, "Object"), (list, "Array"), (str, "String"), ((int, float), "Number"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "Null")


def shown(value: Any) -> str:
    """The beginning of `value` as JSON; it may be a whole request, of which no more is written than is shown."""
    text = ""
    for part in json.JSONEncoder().iterencode(value if not isinstance(value, str) else value[:_MOST_SHOWN]):
        text += part[:_MOST_SHOWN]
        if len(text) > _MOST_SHOWN:
            return f"{text[:_MOST_SHOWN]}..."
    return text


def too_big() -> ServingError:
    """What a client is told whose number is too large for a double."""
    return invalid("JSON Parse error: Number too big to be stored in double.")


def type_error(value: Any, expected: str) -> ServingError:
    """What a client is told whose value has another type than expected."""
    return invalid(f"JSON Value: {shown(value)} Type: {kind_of(value)} is not of expected type: {expected}")
