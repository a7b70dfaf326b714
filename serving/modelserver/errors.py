"""Why a request is refused: a gRPC status code and a message for the client."""

from __future__ import annotations

import grpc


class ServingError(Exception):
    """A request cannot be answered; `code` and the message go to the client."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def invalid(message: str) -> ServingError:
    """The request itself is wrong, and stays wrong if it is sent again."""
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> ServingError:
    """The request asks for a model or a version that is not served."""
    return ServingError(grpc.StatusCode.NOT_FOUND, message)


def failed_precondition(message: str) -> ServingError:
    """The request is right in itself, and the model or the server is not what it needs."""
    return ServingError(grpc.StatusCode.FAILED_PRECONDITION, message)


def unavailable(message: str) -> ServingError:
    """The request is right, and may succeed if it is sent again later."""
    return ServingError(grpc.StatusCode.UNAVAILABLE, message)


def exhausted(message: str) -> ServingError:
    """Memory does not suffice for the request, at present or at all."""
    return ServingError(grpc.StatusCode.RESOURCE_EXHAUSTED, message)


def unexpected(error: Exception) -> ServingError:
    """What the client is told of an error that nobody foresaw."""
    message = f"{type(error).__name__}: {error}"
    return exhausted(message) if isinstance(error, MemoryError) else ServingError(grpc.StatusCode.INTERNAL, message)


def status_code(number: int) -> grpc.StatusCode:
    """The gRPC status code of a TensorFlow error code: both follow the same table."""
    return next((code for code in grpc.StatusCode if code.value[0] == number), grpc.StatusCode.UNKNOWN)
