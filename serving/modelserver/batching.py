"""Dynamic batching: requests that come close together run as one, by TensorFlow Serving's parameters.

Requests of one version, signature and shape wait for each other: until they are `max_batch_size`
rows, or the first of them has waited for `batch_timeout_micros` and one of `num_batch_threads` is free. At most
`max_enqueued_batches` of a version and signature wait, whatever the shapes; what comes on top of that is refused.
Everything but the runs happens on the event loop.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from serving.modelserver.errors import ServingError, failed_precondition, invalid, unavailable
from serving.modelserver.running import run_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from serving.modelserver.batching_policy import BatchingPolicy
    from serving.modelserver.loaded import Loaded
    from serving.modelserver.metrics import BatchingMetrics

Arrays = dict[str, "NDArray[Any]"]
_Key = tuple["Loaded", str, tuple[Any, ...]]
"""Version, signature, and what tensors have to have alike."""

MOST_PADDED_BYTES = 64 << 20
"""Tensors of different shapes are not filled up to more than that in one batch."""


@dataclass(slots=True, eq=False)
class _Task:
    inputs: Mapping[str, NDArray[Any]]
    outputs: Sequence[str]
    rows: int
    answer: asyncio.Future[Arrays]
    since: float
    """When it began to wait, in seconds of the event loop's clock."""


@dataclass(slots=True, eq=False)
class _Batch:
    """Tasks of one version, signature and shape that are to run together."""

    key: _Key
    tasks: list[_Task] = field(default_factory=list)
    rows: int = 0
    ready: bool = False
    """Whether a thread may take it: it is full, or its first task has waited long enough."""
    due: asyncio.TimerHandle | None = None
    """For when the first task has waited long enough. It holds the batch, so it is cancelled once that is closed."""


class BatchingRunner:
    """Runs requests in batches (a `Runner`); used from one event loop only."""

    def __init__(self, policy: BatchingPolicy, metrics: BatchingMetrics) -> None:
        self._policy, self._metrics = policy, metrics
        self._filling: dict[_Key, _Batch] = {}
        """Batches that take more tasks, until they are full or a thread takes them."""
        self._ready: deque[_Batch] = deque()
        self._enqueued: Counter[tuple[Loaded, str]] = Counter()
        """Batches of each version and signature that no thread has taken."""
        self._free = policy.threads
        self._executor = ThreadPoolExecutor(policy.threads, thread_name_prefix="batch")
        self._running: set[asyncio.Task[None]] = set()

    async def run(
        self, loaded: Loaded, signature: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> Arrays:
        """The outputs asked for, by name; raises ServingError, UNAVAILABLE where the queue is full."""
        rows = _rows(inputs)
        if rows > self._policy.max_batch_size:
            raise invalid(f"Task size {rows} is larger than maximum input batch size {self._policy.max_batch_size}")
        answers = self._enqueue(loaded, signature, inputs, outputs)
        try:
            answered = await asyncio.gather(*answers)
        except BaseException:
            for answer in answers:  # the other parts need not run any more
                answer.cancel()
            raise
        if len(answered) == 1:
            return answered[0]
        return {name: np.concatenate([one[name] for one in answered]) for name in outputs}

    def close(self) -> None:
        """Drop what waits, and wait for what runs."""
        for task in self._running:
            task.cancel()
        self._executor.shutdown(cancel_futures=True)

    def _enqueue(
        self, loaded: Loaded, signature: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> list[asyncio.Future[Arrays]]:
        """Let the parts of a request wait, all of them or, where there is no room, none."""
        key = (loaded, signature, _shapes(inputs, ranks_only=self._policy.pad_variable_length))
        filling, most = self._filling.get(key), self._policy.rows_at_once
        first = most - filling.rows if filling and self._policy.split_large else most
        tasks = _tasks(inputs, outputs, first, most)
        fits = filling is not None and self._fits(filling, tasks[0])
        if not fits and first < most:
            tasks = _tasks(inputs, outputs, most, most)
        new_batches = len(tasks) - fits
        if self._enqueued[loaded, signature] + new_batches > self._policy.max_enqueued_batches:
            raise unavailable("The batch scheduling queue to which this task was submitted is full; try later")
        for task in tasks:
            self._add(key, task)
        self._dispatch()
        return [task.answer for task in tasks]

    def _fits(self, batch: _Batch, task: _Task) -> bool:
        if batch.rows + max(task.rows, 1) > self._policy.rows_at_once:
            return False
        return not self._policy.pad_variable_length or _padded_bytes([*batch.tasks, task]) <= MOST_PADDED_BYTES

    def _add(self, key: _Key, task: _Task) -> None:
        batch = self._filling.get(key)
        if batch is not None and not self._fits(batch, task):
            self._close(batch)
            batch = None
        if batch is None:
            batch = self._filling[key] = _Batch(key)
            self._enqueued[key[:2]] += 1
            batch.due = asyncio.get_running_loop().call_later(self._policy.timeout_s, self._is_due, batch)
        batch.tasks.append(task)
        batch.rows += max(task.rows, 1)
        if batch.rows >= self._policy.rows_at_once:
            self._close(batch)

    def _close(self, batch: _Batch) -> None:
        """Let a batch take no more tasks."""
        if self._filling.get(batch.key) is batch:
            del self._filling[batch.key]
        if batch.due:
            batch.due.cancel()
        self._is_ready(batch)

    def _is_due(self, batch: _Batch) -> None:
        """The first task of a batch has waited long enough; the batch goes on taking tasks while no thread is free."""
        self._is_ready(batch)
        self._dispatch()

    def _is_ready(self, batch: _Batch) -> None:
        if not batch.ready:
            batch.ready = True
            self._ready.append(batch)

    def _dispatch(self) -> None:
        """Give ready batches to free threads, those first that were ready first."""
        while self._free and self._ready:
            batch = self._ready.popleft()
            self._close(batch)
            owner = batch.key[:2]
            self._enqueued[owner] -= 1
            if not self._enqueued[owner]:
                del self._enqueued[owner]
            self._free -= 1
            running = asyncio.get_running_loop().create_task(self._work(batch))
            self._running.add(running)
            running.add_done_callback(self._running.discard)

    async def _work(self, batch: _Batch) -> None:
        now = asyncio.get_running_loop().time()
        for task in batch.tasks:
            self._metrics.waited(now - task.since)
        try:
            await self._answer(batch.key[0], batch.key[1], batch.tasks)
        finally:
            self._free += 1
            self._dispatch()

    async def _answer(self, loaded: Loaded, signature: str, tasks: list[_Task]) -> None:
        tasks = [task for task in tasks if not task.answer.done()]
        if not tasks:
            return
        loop = asyncio.get_running_loop()
        self._metrics.ran()
        try:
            answers = await loop.run_in_executor(self._executor, _run_together, loaded, signature, tasks, self._policy)
        except ServingError as error:
            if error.code is grpc.StatusCode.INVALID_ARGUMENT and len(tasks) > 1:
                # One request that the model cannot take is not to fail the others.
                half = len(tasks) // 2
                await self._answer(loaded, signature, tasks[:half])
                await self._answer(loaded, signature, tasks[half:])
                return
            answers = [error] * len(tasks)
        except Exception as error:  # whatever an engine raises, everyone who waits is told
            answers = [error] * len(tasks)
        for task, answer in zip(tasks, answers, strict=True):
            if task.answer.done():
                continue
            if isinstance(answer, Exception):
                task.answer.set_exception(answer)
            else:
                task.answer.set_result(answer)


def _shapes(inputs: Mapping[str, NDArray[Any]], *, ranks_only: bool) -> tuple[Any, ...]:
    """What has to be alike for tensors to run together: the shapes of their rows, or only the ranks."""
    return tuple((name, each.ndim if ranks_only else each.shape[1:]) for name, each in sorted(inputs.items()))


def _tasks(inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str], first: int, most: int) -> list[_Task]:
    """The parts of a request: one of at most `first` rows, the others of at most `most`."""
    loop = asyncio.get_running_loop()
    rows = _rows(inputs)
    starts = [0, *range(first, rows, most)]
    return [
        _Task(
            {name: each[start:end] for name, each in inputs.items()},
            outputs,
            end - start,
            loop.create_future(),
            loop.time(),
        )
        for start, end in pairwise([*starts, rows])
    ]


def _padded_bytes(tasks: list[_Task]) -> int:
    """Bytes of the tasks' tensors, each filled up to the largest of its name."""
    total = 0
    rows = sum(task.rows for task in tasks)
    for name, first in tasks[0].inputs.items():
        largest = np.max([task.inputs[name].shape[1:] for task in tasks], axis=0) if first.ndim > 1 else ()
        total += rows * math.prod(map(int, largest)) * first.itemsize
    return total


def _rows(inputs: Mapping[str, NDArray[Any]]) -> int:
    """Rows of a request: the size of the first dimension of all its tensors; raises ServingError."""
    if any(each.ndim == 0 for each in inputs.values()):
        raise invalid("Batching Run() input tensors must have at least one dimension")
    sizes = {len(each) for each in inputs.values()}
    if len(sizes) > 1:
        raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
    return sizes.pop() if sizes else 0


def _run_together(
    loaded: Loaded, signature: str, tasks: Sequence[_Task], policy: BatchingPolicy
) -> list[Arrays | Exception]:
    """The answer to each task, of one run for all of them."""
    rows = sum(task.rows for task in tasks)
    size = policy.padded(rows) if rows else 0
    inputs = {name: _joined([task.inputs[name] for task in tasks], size - rows) for name in tasks[0].inputs}
    outputs = list(dict.fromkeys(name for task in tasks for name in task.outputs))
    answer = run_model(loaded, signature, inputs, outputs)
    for name, values in answer.items():
        if values.ndim == 0 or len(values) != size:
            raise failed_precondition(
                f"Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input "
                f"tensors: {name} has shape {list(values.shape)}, the batch {size} rows"
            )
    answers: list[Arrays | Exception] = []
    at = 0
    for task in tasks:
        answers.append({name: answer[name][at : at + task.rows] for name in task.outputs})
        at += task.rows
    return answers


def _joined(arrays: list[NDArray[Any]], more: int) -> NDArray[Any]:
    """The rows of all arrays and `more` copies of the first row; smaller ones are filled up with their first value."""
    if len(arrays) == 1 and not more:
        return arrays[0]
    largest = tuple(np.max([each.shape[1:] for each in arrays], axis=0)) if arrays[0].ndim > 1 else ()
    arrays = [_filled(each, largest) for each in arrays]
    if more:
        filler = next(each for each in arrays if len(each))
        arrays.append(np.repeat(filler[:1], more, axis=0))
    return np.concatenate(arrays)


def _filled(array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    if array.shape[1:] == shape:
        return array
    filler = array.ravel()[0] if array.size else np.zeros((), array.dtype)[()]
    after = [(0, most - have) for have, most in zip(array.shape[1:], shape, strict=True)]
    return np.pad(array, [(0, 0), *after], constant_values=filler)
