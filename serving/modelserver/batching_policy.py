"""By which rules requests run together: TensorFlow Serving's BatchingParameters, read and checked."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from serving.modelserver.model_config import InvalidConfig, read_text_proto
from serving.modelserver.text_protos import BatchingParameters

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class BatchingPolicy:
    """TensorFlow Serving's BatchingParameters, with its defaults."""

    max_batch_size: int = 1000
    """Rows of a request, and of a batch where large ones are not split."""
    timeout_s: float = 0.0
    """How long a batch waits for more rows."""
    max_enqueued_batches: int = 10
    """Batches that wait in one queue, the one that is being filled among them."""
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Batches that run at once, of all models."""
    allowed_sizes: tuple[int, ...] = ()
    """Sizes that a batch is filled up to, ascending, the last one no less than `rows_at_once`; none: any."""
    pad_variable_length: bool = False
    """Whether tensors of different shapes are filled up to the largest, instead of waiting in queues of their own."""
    split_large: bool = False
    """Whether a batch has `max_execution_size` rows, and a request runs in several where it does not fit into one."""
    max_execution_size: int = 0
    """At most `max_batch_size`; 0: that many."""

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
            if theirs == "max_enqueued_batches" and not message.enable_large_batch_splitting.value:
                values[ours] = values[ours] or 1  # as it is taken in TensorFlow Serving
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
    if policy.max_execution_size > policy.max_batch_size:
        raise InvalidConfig(f"{path}: max_execution_batch_size must be at most max_batch_size, {policy.max_batch_size}")
    if sizes and (list(sizes) != sorted(set(sizes)) or sizes[0] < 1):
        raise InvalidConfig(f"{path}: allowed_batch_sizes entries must be positive and in increasing order")
    # In TensorFlow Serving it is `max_batch_size`, where large batches are split too.
    if sizes and (last not in sizes or sizes[-1] not in {last, policy.max_batch_size}):
        raise InvalidConfig(
            f"{path}: the last entry of allowed_batch_sizes must be {last}, the largest batch that runs"
        )
    return policy
