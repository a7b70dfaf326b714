"""What can be wrong with a model's files; types of their own, so that who catches them imports no library."""

from __future__ import annotations

from enum import IntEnum


class InvalidModelFile(ValueError):
    """A file does not hold a compact model, or not all of one; the message names it."""


class ExportError(ValueError):
    """A version cannot be written; the message says what to change."""


class VersionTaken(ExportError):
    """There is something in its place already; the next number may be free."""


class ErrorCode(IntEnum):
    """What GetModelStatus says of a version that cannot be served, by gRPC's numbers."""

    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    DATA_LOSS = 15


class BrokenModel(ValueError):
    """A version cannot be served; the message says why."""

    def __init__(self, message: str, error_code: int = ErrorCode.UNKNOWN) -> None:
        """error_code: by gRPC's numbers."""
        super().__init__(message)
        self.error_code = error_code


class CannotLoadNow(RuntimeError):
    """A version could not be loaded for a reason that is not its own, and may pass."""
