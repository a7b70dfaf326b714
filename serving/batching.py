"""Dynamic batching: requests that come close together run as one, by TensorFlow Serving's parameters.

Requests of one version, one signature and tensors that fit together wait for each other in a queue: until they are
`max_batch_size` rows, or the first of them has waited for `batch_timeout_micros`. Batches then wait for one of
`num_batch_threads`, at most `max_enqueued_batches` in a queue; what comes on top of that is refused. Everything but
the runs happens on the event loop.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from serving.errors import ServingError, failed_precondition, invalid, unavailable
from serving.model_config import InvalidConfig, read_text_proto
from serving.running import run_model
from serving.text_protos import BatchingParameters

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from serving.versions import Loaded

Arrays = dict[str, "NDArray[Any]"]


@dataclass(frozen=True, slots=True)
class BatchingPolicy:
    """TensorFlow Serving's BatchingParameters, with its defaults."""

    max_batch_size: int = 1000
    """Rows of a batch, and of a request where large ones are not split."""
    timeout_s: float = 0.0
    """How long a batch waits for more rows."""
    max_enqueued_batches: int = 10
    """Batches that wait in one queue, the one that is being filled among them."""
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Batches that run at once, of all models."""
    allowed_sizes: tuple[int, ...] = ()
    """Sizes that a batch is filled up to, ascending, the last one `max_batch_size`; none: any."""
    pad_variable_length: bool = False
    """Whether tensors of different shapes are filled up to the largest, instead of waiting in queues of their own."""
    split_large: bool = False
    """Whether a request of more than `max_execution_size` rows runs as several batches."""
    max_execution_size: int = 0
    """Rows that run at once where large requests are split; 0: `max_batch_size`."""

    def padded(self, rows: int) -> int:
        """The size that a batch of so many rows runs with."""
        return next((size for size in self.allowed_sizes if size >= rows), rows)

    @property
    def rows_at_once(self) -> int:
        """Most rows of a batch that runs."""
        return (self.max_execution_size if self.split_large else 0) or self.max_batch_size


def read_batching(path: Path) -> BatchingPolicy:
    """The policy of a file that `--batching-parameters-file` names; raises InvalidConfig."""
    message = BatchingParameters()
    read_text_proto(path, message)
    names = {
        "max_batch_size": "max_batch_size",
        "max_enqueued_batches": "max_enqueued_batches",
        "num_batch_threads": "threads",
        "max_execution_batch_size": "max_execution_size",
    }
    values: dict[str, Any] = {}
    for theirs, ours in names.items():
        if message.HasField(theirs):
            values[ours] = getattr(message, theirs).value
            if values[ours] < 1:
                raise InvalidConfig(f"{path}: {theirs} must be at least 1")
    if message.HasField("batch_timeout_micros"):
        values["timeout_s"] = max(0, message.batch_timeout_micros.value) / 1e6
    policy = BatchingPolicy(
        **values,
        allowed_sizes=tuple(message.allowed_batch_sizes),
        pad_variable_length=message.pad_variable_length_inputs,
        split_large=message.enable_large_batch_splitting.value,
    )
    sizes, last = policy.allowed_sizes, policy.rows_at_once
    if sizes and (list(sizes) != sorted(set(sizes)) or sizes[0] < 1):
        raise InvalidConfig(f"{path}: allowed_batch_sizes entries must be positive and in increasing order")
    if sizes and sizes[-1] != last:
        raise InvalidConfig(
            f"{path}: the last entry of allowed_batch_sizes must be {last}, the largest batch that runs"
        )
    return policy


@dataclass(slots=True, eq=False)
class _Task:
    inputs: Mapping[str, NDArray[Any]]
    outputs: Sequence[str]
    rows: int
    answer: asyncio.Future[Arrays]


@dataclass(slots=True, eq=False)
class _Batch:
    tasks: list[_Task] = field(default_factory=list)
    rows: int = 0
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True, eq=False)
class _Queue:
    """Batches of one version, signature and shape."""

    loaded: Loaded
    signature: str
    filling: _Batch | None = None
    waiting: int = 0
    """Closed batches that no thread runs yet."""


class BatchingRunner:
    """Runs requests in batches (a `Runner`); used from one event loop only."""

    def __init__(self, policy: BatchingPolicy) -> None:
        self._policy = policy
        self._queues: dict[Any, _Queue] = {}
        self._threads = asyncio.Semaphore(policy.threads)
        self._executor = ThreadPoolExecutor(policy.threads, thread_name_prefix="batch")
        self._running: set[asyncio.Task[None]] = set()

    async def run(
        self, loaded: Loaded, signature: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> Arrays:
        """The outputs asked for, by name; raises ServingError, UNAVAILABLE where the queue is full."""
        rows = _rows(inputs)
        if rows > self._policy.max_batch_size and not self._policy.split_large:
            raise invalid(f"Task size {rows} is larger than maximum input batch size {self._policy.max_batch_size}")
        most = self._policy.rows_at_once
        parts = [
            self._enqueue(loaded, signature, {name: each[at : at + most] for name, each in inputs.items()}, outputs)
            for at in range(0, max(rows, 1), most)
        ]
        answers = await asyncio.gather(*parts)
        if len(answers) == 1:
            return answers[0]
        return {name: np.concatenate([answer[name] for answer in answers]) for name in outputs}

    def close(self) -> None:
        """Drop what waits, and wait for what runs."""
        for task in self._running:
            task.cancel()
        self._executor.shutdown(cancel_futures=True)

    def _enqueue(
        self, loaded: Loaded, signature: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> asyncio.Future[Arrays]:
        padded = self._policy.pad_variable_length
        shapes = tuple((name, each.ndim if padded else each.shape[1:]) for name, each in sorted(inputs.items()))
        key = (loaded, signature, shapes)
        queue = self._queues.setdefault(key, _Queue(loaded, signature))
        task = _Task(inputs, outputs, _rows(inputs), asyncio.get_running_loop().create_future())
        batch = queue.filling
        if batch is not None and batch.rows + task.rows > self._policy.rows_at_once:
            self._send(key, queue)
            batch = None
        if batch is None:
            if queue.waiting >= self._policy.max_enqueued_batches:
                raise unavailable(
                    "The batch scheduling queue to which this task was submitted is full; try again later"
                )
            batch = queue.filling = _Batch()
            loop = asyncio.get_running_loop()
            batch.timer = loop.call_later(self._policy.timeout_s, self._send, key, queue)
        batch.tasks.append(task)
        batch.rows += task.rows
        if batch.rows >= self._policy.rows_at_once:
            self._send(key, queue)
        return task.answer

    def _send(self, key: Any, queue: _Queue) -> None:
        """Close the batch that is being filled, and let it wait for a thread."""
        batch, queue.filling = queue.filling, None
        if batch is None:
            return
        if batch.timer is not None:
            batch.timer.cancel()
        queue.waiting += 1
        running = asyncio.get_running_loop().create_task(self._work(key, queue, batch))
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    async def _work(self, key: Any, queue: _Queue, batch: _Batch) -> None:
        async with self._threads:
            queue.waiting -= 1
            if not queue.waiting and queue.filling is None:
                self._queues.pop(key, None)
            tasks = [task for task in batch.tasks if not task.answer.cancelled()]
            if tasks:
                await self._answer(queue, tasks)

    async def _answer(self, queue: _Queue, tasks: list[_Task]) -> None:
        loop = asyncio.get_running_loop()
        try:
            answers = await loop.run_in_executor(
                self._executor, _run_together, queue.loaded, queue.signature, tasks, self._policy
            )
        except ServingError as error:
            if error.code is grpc.StatusCode.INVALID_ARGUMENT and len(tasks) > 1:
                for task in tasks:  # one request that the model cannot take is not to fail the others
                    await self._answer(queue, [task])
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


def _rows(inputs: Mapping[str, NDArray[Any]]) -> int:
    """Rows of a request: the size of the first dimension of all its tensors; raises ServingError."""
    if any(each.ndim == 0 for each in inputs.values()):
        raise invalid("Batching session Run() input tensors must have at least one dimension")
    sizes = {len(each) for each in inputs.values()}
    if len(sizes) > 1:
        raise invalid("Batching session Run() input tensors must have equal 0th-dimension size")
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
    """The rows of all arrays and `more` copies of the first one; smaller ones are filled up with their first value."""
    if len(arrays) == 1 and not more:
        return arrays[0]
    largest = tuple(np.max([each.shape[1:] for each in arrays], axis=0)) if arrays[0].ndim > 1 else ()
    arrays = [_filled(each, largest) for each in arrays]
    if more:
        arrays.append(np.repeat(arrays[0][:1], more, axis=0))
    return np.concatenate(arrays)


def _filled(array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    if array.shape[1:] == shape:
        return array
    filler = array.ravel()[0] if array.size else np.zeros((), array.dtype)[()]
    after = [(0, most - have) for have, most in zip(array.shape[1:], shape, strict=True)]
    return np.pad(array, [(0, 0), *after], constant_values=filler)
