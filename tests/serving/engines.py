"""Engines without TensorFlow, for tests of what surrounds them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass
class Doubler:
    """Doubles its input `x`, and keeps what it was given; waits in each run until `go` is set."""

    path: Path | None = None
    signature_defs: Mapping[str, Any] = field(default_factory=dict)
    ran: list[Mapping[str, Any]] = field(default_factory=list)
    go: threading.Event = field(default_factory=threading.Event)
    closed: bool = False
    fails_on: float | None = None
    """A value that it cannot take."""
    rows: int | None = None
    """Rows that it answers with, whatever it was given."""

    def __post_init__(self) -> None:
        self.go.set()

    def run(self, signature: str, inputs: Mapping[str, Any], outputs: Sequence[str]) -> dict[str, Any]:
        assert not self.closed
        self.ran.append(inputs)
        self.go.wait(30)
        if self.fails_on is not None and self.fails_on in inputs["x"]:
            from serving.modelserver.errors import invalid

            raise invalid("the model cannot take it")
        doubled = inputs["x"] * 2
        answer = doubled if self.rows is None else np.zeros((self.rows, 1), np.float32)
        return dict.fromkeys(outputs, answer)

    def close(self) -> None:
        self.closed = True
