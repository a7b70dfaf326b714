"""Where the versions of a model stand, as GetModelStatus says it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """Where a version stands, in TensorFlow Serving's terms."""

    START = "START"
    """Found, and not whole yet."""
    LOADING = "LOADING"
    AVAILABLE = "AVAILABLE"
    UNLOADING = "UNLOADING"
    END = "END"
    """Unloaded, or could not be loaded: then there is an error."""


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """What became of one version."""

    version: int
    state: State
    error: str = ""
    """Why it could not be loaded."""
    code: int = 0
    """Of that error, by gRPC's numbers."""
