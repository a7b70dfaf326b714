"""What can be wrong with a model's files; types of their own, so that who catches them imports no library."""

from __future__ import annotations


class InvalidModelFile(ValueError):
    """A file does not hold a compact model, or not all of one; the message names it."""


class ExportError(ValueError):
    """A version cannot be written; the message says what to change."""


class BrokenModel(ValueError):
    """A version cannot be served; the message says why."""

    def __init__(self, message: str, error_code: int = 2) -> None:
        """error_code: what GetModelStatus says of it, by gRPC's numbers; 2 is UNKNOWN."""
        super().__init__(message)
        self.error_code = error_code


class CannotLoadNow(RuntimeError):
    """A version could not be loaded for a reason that is not its own, and may pass."""
