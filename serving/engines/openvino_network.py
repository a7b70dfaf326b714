"""A network that OpenVINO has compiled: batches in, outputs out, by several threads at once.

Where it fails while it computes, as when memory is short, OpenVINO leaves half of its state behind, and its next
answers may be rows of the images before. So it is then given up, and compiled anew a little later, when memory may be
less short: OpenVINO can end the process where it gets none while it compiles. Until then whoever asks is told to ask
again.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import grpc
import numpy as np
import openvino as ov

from earshot.logs import get_log
from serving.modelserver.errors import ServingError, exhausted, invalid, unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

log = get_log(__name__)

PAUSES_S = (1.0, 2.0, 5.0, 15.0, 60.0)
"""Before each attempt to compile a network anew that was given up; the last one again and again."""
_COMPILED_S = 20.0
"""By which both networks are compiled that will ever be."""
_NO_MEMORY = (
    "failed to allocate",
    "bad_alloc",
    "could not allocate",
    "can't alloc",
    "cannot allocate memory",
    "resource temporarily unavailable",
)
"""What OpenVINO, and what it is made of, says where there is no memory, or none for another thread; in lower case."""


class Compiled(NamedTuple):
    """A network, compiled twice: OpenVINO is a tenth quicker where it knows all shapes beforehand."""

    several: ov.CompiledModel
    """Takes any number of images."""
    single: ov.CompiledModel
    """Takes one."""


@dataclass(frozen=True, slots=True)
class _Pool:
    """Requests of one network that nobody uses, as many as were ever needed at once; OpenVINO lets them queue.

    The images that such a request was given last are gone, so it is not started before it has taken others.
    """

    model: ov.CompiledModel
    idle: deque[ov.InferRequest] = field(default_factory=deque)

    def take(self) -> ov.InferRequest:
        """One of them, or a new one."""
        try:
            return self.idle.pop()
        except IndexError:
            return self.model.create_infer_request()


@dataclass(frozen=True, slots=True)
class _Networks:
    """What was compiled at once, and is given up at once."""

    several: _Pool
    single: _Pool

    def of(self, images: int) -> _Pool:
        """Requests to compute so many images."""
        return self.single if images == 1 else self.several


class CompiledNetwork:
    """Computes batches, each divided among OpenVINO's streams."""

    def __init__(self, compiled: Callable[[], Compiled], pauses_s: Sequence[float] = PAUSES_S) -> None:
        """compiled: compiles the network, now and after each failure; RuntimeError says that it cannot."""
        self._compile, self._pauses_s = compiled, pauses_s
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._anew: threading.Thread | None = None
        first = compiled()
        self._current: _Networks | None = _Networks(*map(_Pool, first))
        self.streams: int = first.several.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        """Parts of batches that are best computed at once."""

    def compute(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Each output, [batch, ...], of at least one image, [batch, mels, frames, channels].

        Images that lie one behind the other are read where they are, so they may not change meanwhile.
        Raises ServingError: INVALID_ARGUMENT where the network does not take such images, RESOURCE_EXHAUSTED where
        memory does not suffice, UNAVAILABLE where it is about to be compiled anew.
        """
        networks = self._current
        if networks is None:
            self._begin_anew()
            raise unavailable("OpenVINO failed on another request, and is being started anew; ask again")
        parts = np.array_split(np.ascontiguousarray(images), min(len(images), self.streams))
        started: list[ov.InferRequest] = []
        pools = [networks.of(len(part)) for part in parts]
        try:
            requests = [pool.take() for pool in pools]
        except (RuntimeError, MemoryError) as error:  # OpenVINO has no others, whatever is wrong
            raise self._failed(networks, started, error) from error
        # Made from a shape and a type they share memory that may not be written to, as are the bytes of a request.
        tensors = [ov.Tensor(part, part.shape, ov.Type(part.dtype)) for part in parts]
        try:
            for request, tensor in zip(requests, tensors, strict=True):
                request.set_input_tensor(tensor)
                request.start_async()
                started.append(request)
            for request in started:
                request.wait()
        except (RuntimeError, MemoryError) as error:
            if started or short_of_memory(error):
                raise self._failed(networks, started, error) from error
            raise invalid(f"OpenVINO cannot run the model on this: {error}") from error  # and has begun nothing
        except BaseException:  # Ctrl-C, where no server runs
            _await(started)
            raise
        outputs = [
            [request.get_output_tensor(number).data for request in requests]
            for number in range(len(networks.several.model.outputs))
        ]
        answered = [[len(rows) for rows in output] for output in outputs]
        if self._current is not networks or answered != [[len(part) for part in parts]] * len(outputs):
            self._give_up(networks, "rows of other images")
            raise unavailable("OpenVINO failed on another request at the same time; ask again")
        joined = [np.concatenate(output) for output in outputs]
        for pool, request in zip(pools, requests, strict=True):
            pool.idle.append(request)
        return joined

    def close(self) -> None:
        """Let go of the network's memory; nothing may run any more."""
        with self._lock:
            self._closed.set()
            self._current, compiling = None, self._anew
        if compiling:  # a process that ends while OpenVINO compiles is aborted
            compiling.join(_COMPILED_S)

    def _failed(self, networks: _Networks, started: Sequence[ov.InferRequest], error: Exception) -> ServingError:
        """Give the network up, wait until nothing reads the images any more, and return what the client is told."""
        self._give_up(networks, str(error))
        _await(started)
        message = f"OpenVINO failed: {error}"
        return exhausted(message) if short_of_memory(error) else ServingError(grpc.StatusCode.INTERNAL, message)

    def _give_up(self, networks: _Networks, why: str) -> None:
        with self._lock:  # two may find it broken at once
            if self._current is not networks:
                return
            self._current = None
        log.warning("OpenVINO failed: its network is compiled anew", error=why)
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Compile in a thread, unless one does so; where there is none to be had now, the next who asks tries again."""
        with self._lock:
            if self._anew or self._current or self._closed.is_set():
                return
            thread = threading.Thread(target=self._compile_anew, name="recompile", daemon=True)
            with suppress(RuntimeError):
                thread.start()
                self._anew = thread

    def _compile_anew(self) -> None:
        attempt = 0
        while not self._closed.wait(self._pauses_s[min(attempt, len(self._pauses_s) - 1)]):
            try:
                networks = _Networks(*map(_Pool, self._compile()))
            except Exception as error:  # MemoryError too: whatever it is, it may pass
                attempt += 1
                log.warning("OpenVINO cannot compile its network anew: it is tried again", error=str(error))
                continue
            with self._lock:
                self._anew = None
                if not self._closed.is_set():
                    self._current = networks
            return


def _await(started: Sequence[ov.InferRequest]) -> None:
    """Return when nothing reads the images of these any more: OpenVINO does not keep them."""
    for request in started:
        with suppress(RuntimeError, MemoryError):
            request.wait()


def short_of_memory(error: Exception) -> bool:
    """Whether OpenVINO failed for want of memory: only the text of its error tells."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(said in text for said in _NO_MEMORY)
