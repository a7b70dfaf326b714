"""What can be wrong with a model's files; types of their own, so that who catches them imports no library."""

from __future__ import annotations


class InvalidModelFile(ValueError):
    """A file does not hold a compact model, or not all of one; the message names it."""


class ExportError(ValueError):
    """A version cannot be written; the message says what to change."""


class BrokenModel(ValueError):
    """A version cannot be served; the message says why."""


class CannotLoadNow(RuntimeError):
    """A version could not be loaded for a reason that is not its own, and may pass."""
