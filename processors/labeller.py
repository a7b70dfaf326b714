"""Turns a stream of records into labels and dead letters, batch after batch, and acknowledges each record after that.

Spectrograms are computed by threads while the batch before is with the model. A batch is what has arrived meanwhile:
a lone segment goes at once, and under load batches fill by themselves. Records are acknowledged in the order in which
they came, which Faust's offset commits rely on: they may pass a record that is acknowledged after its successor.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from earshot.audio import SEGMENT_SAMPLES
from earshot.logs import get_log
from earshot.spectrogram import DEFAULT_PARAMS, spectrogram
from processors import metrics
from processors.pipeline import Failure, Incoming, Prepared, bury, label, prepare
from processors.predictor import PredictError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from earshot.segments import Record
    from processors.predictor import Prediction, Predictor
    from processors.settings import ProcessorSettings

log = get_log(__name__)

IMAGE_SHAPE = (DEFAULT_PARAMS.mels, DEFAULT_PARAMS.frames(SEGMENT_SAMPLES), DEFAULT_PARAMS.channels)
"""[mels, frames, channels] of the spectrograms that are sent to the model."""


class Publish(Protocol):
    """Writes a record to a topic, and returns once Kafka has acknowledged it, however long that takes."""

    def __call__(self, topic: str, record: Record) -> Awaitable[None]:
        """Write `record` to `topic`."""


@dataclass(frozen=True, slots=True)
class _Job:
    incoming: Incoming
    appended_s: float
    prepared: asyncio.Future[Prepared | Failure]
    acknowledge: Callable[[], Awaitable[Any]]


class Labeller:
    """Processes what `accept` takes, and holds two batches at most: one with the model, one prefetched."""

    def __init__(self, settings: ProcessorSettings, predictor: Predictor, publish: Publish) -> None:
        self._settings = settings
        self._predictor = predictor
        self._publish = publish
        self._queue: asyncio.Queue[_Job] = asyncio.Queue(settings.max_batch)
        self._in_hand = asyncio.Lock()
        self._ready = False
        self._threads = ThreadPoolExecutor(settings.spectrogram_threads, thread_name_prefix="spectrogram")

    @property
    def ready(self) -> bool:
        """Whether the model has answered and fits."""
        return self._ready

    async def accept(self, incoming: Incoming, *, appended_s: float, acknowledge: Callable[[], Awaitable[Any]]) -> None:
        """Take a record, which Kafka appended at `appended_s` (Unix time); waits while two batches are held."""
        metrics.SEGMENTS.inc()
        metrics.IN_FLIGHT.inc()
        prepared = asyncio.get_running_loop().run_in_executor(self._threads, prepare, incoming)
        await self._queue.put(_Job(incoming, appended_s, prepared, acknowledge))

    async def run(self) -> None:
        """Wait for the model, then process batches until cancelled; raises WrongModel where the model does not fit."""
        # The first spectrogram imports what makes the filters: now, rather than with the first segment.
        silence = np.zeros(SEGMENT_SAMPLES, np.int16)
        warm_up = asyncio.get_running_loop().run_in_executor(self._threads, spectrogram, silence)
        try:
            await self._predictor.wait_for_model(IMAGE_SHAPE)
        finally:
            await warm_up  # a thread cannot be stopped, and must not outlive the event loop that it reports to
        self._ready = True
        metrics.MODEL_READY.set(1)
        while True:
            jobs = [await self._queue.get()]
            async with self._in_hand:
                while len(jobs) < self._settings.max_batch and not self._queue.empty():
                    jobs.append(self._queue.get_nowait())
                await self._process(jobs)

    async def settle(self, timeout_s: float) -> None:
        """Wait until all that was accepted is written and acknowledged, unless that takes long."""
        if self._ready and not self._predictor.away:
            await _within(timeout_s, self._queue.join())

    async def finish(self, timeout_s: float) -> None:
        """Wait until the batch in hand is written and acknowledged, unless that takes long, and begin no other."""
        if not self._predictor.away:
            await _within(timeout_s, self._in_hand.acquire())
        self._threads.shutdown(cancel_futures=True)

    async def _process(self, jobs: list[_Job]) -> None:
        metrics.BATCH.observe(len(jobs))
        prepared = await asyncio.gather(*(job.prepared for job in jobs))
        images = [result.image for result in prepared if isinstance(result, Prepared)]
        predictions = iter(await self._predictor.predict_each(images) if images else [])
        await asyncio.gather(
            *(
                self._bury(job, result)
                if isinstance(result, Failure)
                else self._conclude(job, result, next(predictions))
                for job, result in zip(jobs, prepared, strict=True)
            )
        )
        for job in jobs:
            await job.acknowledge()
            metrics.IN_FLIGHT.dec()
            self._queue.task_done()

    async def _conclude(self, job: _Job, prepared: Prepared, prediction: Prediction | PredictError) -> None:
        if isinstance(prediction, PredictError):
            await self._bury(job, Failure("predict", prediction))
            return
        settings = self._settings
        made = label(
            prepared, prediction, model_name=settings.model_name, top_k=settings.top_k, threshold=settings.threshold
        )
        await self._publish(settings.labels_topic, made.to_record())
        metrics.LABELS.labels(label=made.label).inc()
        metrics.END_TO_END_S.observe(max(time.time() - job.appended_s, 0.0))

    async def _bury(self, job: _Job, failure: Failure) -> None:
        incoming = job.incoming
        log.warning(
            "dead letter",
            stage=failure.stage,
            error=str(failure.error),
            topic=incoming.topic,
            partition=incoming.partition,
            offset=incoming.offset,
        )
        await self._publish(self._settings.dead_letters_topic, bury(incoming, failure))
        metrics.DEAD_LETTERS.labels(stage=failure.stage).inc()


async def _within(timeout_s: float, work: Awaitable[Any]) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await work
    except TimeoutError:
        log.warning("went on with segments in hand, they will be processed again", waited_s=timeout_s)
