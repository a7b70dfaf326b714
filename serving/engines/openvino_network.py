"""A network that OpenVINO has compiled: batches in, outputs out, by several threads at once.

Where it fails while it computes, as when memory is short, what it answers next may be of the images before: OpenVINO
leaves half of its state behind. So it is then given up, with all that was computed beside it, and compiled anew for the
next batch.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from serving.modelserver.errors import ServingError, exhausted, invalid, unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    import openvino as ov
    from numpy.typing import NDArray

_NO_MEMORY = (
    *("Failed to allocate", "bad_alloc", "could not allocate"),
    *("Cannot allocate memory", "Resource temporarily unavailable"),
)
"""What OpenVINO, C++ and oneDNN say where there is not enough, or none for another thread."""


@dataclass(frozen=True, slots=True)
class _Compiled:
    model: ov.CompiledModel
    idle: deque[ov.InferRequest] = field(default_factory=deque)
    """As many as were ever needed at once; OpenVINO lets them queue."""

    def request(self) -> ov.InferRequest:
        """One that nobody uses."""
        try:
            return self.idle.pop()
        except IndexError:
            return self.model.create_infer_request()


class CompiledNetwork:
    """Computes batches, each divided among OpenVINO's streams."""

    def __init__(self, compiled: Callable[[], ov.CompiledModel]) -> None:
        """compiled: compiles the network, now and whenever it has failed; RuntimeError says that it cannot."""
        self._compile = compiled
        self._lock = threading.Lock()
        self._current: _Compiled | None = _Compiled(compiled())
        self.streams: int = self._current.model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        """Batches that are best computed at once."""

    def compute(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Each output, [batch, ...], of at least one image, [batch, mels, frames, channels]; raises ServingError."""
        compiled = self._ready()
        parts = np.array_split(images, min(len(images), self.streams))
        requests = [compiled.request() for _ in parts]
        try:
            for request, part in zip(requests, parts, strict=True):
                request.start_async([part], share_inputs=True)
        except RuntimeError as error:  # OpenVINO has no other, whatever is wrong; here it is the images' shape
            _finish(requests)
            raise invalid(f"OpenVINO cannot run the model on this: {error}") from error
        try:
            for request in requests:
                request.wait()
        except RuntimeError as error:
            self._give_up(compiled)
            _finish(requests)
            raise _failure(error) from error
        outputs = [
            [request.get_output_tensor(number).data for request in requests]
            for number in range(len(compiled.model.outputs))
        ]
        answered = [[len(rows) for rows in output] for output in outputs]
        if self._current is not compiled or answered != [[len(part) for part in parts]] * len(outputs):
            self._give_up(compiled)
            raise unavailable("OpenVINO failed on another request at the same time; ask again")
        joined = [np.concatenate(output) for output in outputs]
        compiled.idle.extend(requests)
        return joined

    def close(self) -> None:
        """Let go of the network's memory; nothing may run any more."""
        self._current = None

    def _ready(self) -> _Compiled:
        with self._lock:
            if self._current is None:
                try:
                    self._current = _Compiled(self._compile())
                except RuntimeError as error:
                    raise _failure(error) from error
            return self._current

    def _give_up(self, compiled: _Compiled) -> None:
        with self._lock:
            if self._current is compiled:
                self._current = None


def short_of_memory(error: Exception) -> bool:
    """Whether OpenVINO failed for want of memory: only the text of its error tells."""
    return any(said in str(error) for said in _NO_MEMORY)


def _failure(error: RuntimeError) -> ServingError:
    message = f"OpenVINO failed: {error}"
    return exhausted(message) if short_of_memory(error) else ServingError(grpc.StatusCode.INTERNAL, message)


def _finish(requests: list[Any]) -> None:
    """Wait until all have ended, however they end: they read the images until then."""
    for request in requests:
        with suppress(RuntimeError):
            request.wait()
