"""The Faust application: which topic it reads, how it is bounded, and what it serves over HTTP.

It reads raw bytes, acknowledges nothing by itself, and never creates a topic.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import faust
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from faust.exceptions import FaustError
from faust.sensors.prometheus import setup_prometheus_sensors

from earshot.deadletters import lessened
from earshot.logs import get_log
from processors.pipeline import Incoming

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from earshot.segments import Record
    from processors.labeller import Labeller, Publish
    from processors.settings import ProcessorSettings

log = get_log(__name__)

_SETTLE_S = 10.0
"""Longest that a rebalance waits for what is in hand; after that it is processed again elsewhere."""
_FINISH_S = 10.0
"""Longest that a stop waits for the batch in hand; after that it is processed again by the next worker."""
_COMMIT_S = 10.0
"""Longest that a commit takes; what it would have committed is processed again."""

_NEVER_S = 10 * 365 * 24 * 3600.0
"""Longer than any worker runs."""


class _FilelessApp(faust.App):  # type: ignore[misc]
    """A worker has no tables, so it needs none of the folders that Faust would make, and a kill would leave."""

    logger = logging.getLogger("faust.app")  # or what it says of itself would count as ours

    def _create_directories(self) -> None:
        pass


def create_app(settings: ProcessorSettings) -> faust.App:
    """The Faust application without its agent."""
    request_timeout_s = 60.0
    app = _FilelessApp(
        settings.group,
        broker=[f"kafka://{server}" for server in settings.bootstrap_servers.split(",")],
        key_serializer="raw",
        value_serializer="raw",
        # Topics have settings of their own (earshot.topics), which Faust's declarations would not give them.
        topic_allow_declare=False,
        topic_disable_leader=True,
        # Bounds: a segment is 96 KB, and Faust's own buffer of 4,096 would be 400 MB.
        stream_buffer_maxsize=settings.max_batch,
        broker_max_poll_records=settings.max_batch,
        # A worker that died is noticed after the session timeout; the model being away must not look like death.
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.session_timeout_s / 4,
        broker_request_timeout=request_timeout_s,  # Faust demands at least the session timeout
        # aiokafka takes a worker that reads nothing for so long out of its group, and never lets it back in: one that
        # waits for its model, and a spare one that has no partitions (https://github.com/aio-libs/aiokafka/issues/1187).
        broker_max_poll_interval=_NEVER_S,
        broker_commit_interval=1.0,
        stream_processing_timeout=settings.retry_budget_s + settings.predict_timeout_s + 300.0,
        # Waiting is bounded, and done by `_SETTLE_S` and the worker's stop: Faust's own has no bound.
        stream_wait_empty=False,
        producer_acks=-1,
        producer_request_timeout=request_timeout_s,
        producer_max_request_size=8 * 1024 * 1024,  # the topic's own limit is the one that counts
        web_bind=settings.web_host,
        web_host=settings.web_host,
        web_port=settings.web_port,
        web_router_enabled=False,
        web_tables_enabled=False,
    )
    setup_prometheus_sensors(app, name_prefix="earshot_processor_faust")
    return app


def publisher(app: faust.App, dead_letters_topic: str) -> Publish:
    """A `Publish` through the application's producer, which tries until Kafka has acknowledged the record.

    Records are written in the order in which it is called, but for those that had to be tried again.
    """
    topics: dict[str, Any] = {}
    # Sends that run at once overtake each other on their way into aiokafka's buffer; who waits here keeps its place.
    turn = asyncio.Lock()

    async def publish(topic: str, record: Record) -> None:
        channel = topics.setdefault(topic, app.topic(topic, key_serializer="raw", value_serializer="raw"))
        while True:
            try:
                async with turn:
                    written = await channel.send(key=record.key, value=record.value, headers=record.headers)
                await written
            except MessageSizeTooLargeError:
                smaller = lessened(record) if topic == dead_letters_topic else None
                if smaller is None:
                    raise
                record = smaller
            except (KafkaError, FaustError) as error:
                log.warning("not acknowledged by Kafka, trying again", topic=topic, error=repr(error))
                await asyncio.sleep(1.0)
            else:
                return

    return publish


def add_agent(app: faust.App, settings: ProcessorSettings, labeller: Labeller) -> None:
    """Let `labeller` take every record of the segments topic; a stop finishes and commits the batch in hand."""

    async def label_segments(stream: Any) -> None:
        unacknowledged = stream.noack()
        async for event in unacknowledged.events():
            message = event.message
            await labeller.accept(
                Incoming(
                    key=message.key,
                    value=message.value,
                    headers=list(message.headers or ()),
                    topic=message.topic,
                    partition=message.partition,
                    offset=message.offset,
                ),
                appended_s=message.timestamp,
                acknowledge=partial(unacknowledged.ack, event),
            )

    async def settle(*_: Any, **__: Any) -> None:
        await labeller.settle(_SETTLE_S)
        await _commit(app)

    async def finish(*_: Any, **__: Any) -> None:
        await labeller.finish(_FINISH_S)
        await _commit(app)

    segments = app.topic(settings.segments_topic, key_serializer="raw", value_serializer="raw")
    # With more than one, Faust commits past messages that another one still has in hand: a kill loses them.
    app.agent(segments, name="segments", concurrency=1)(label_segments)
    app.on_partitions_revoked.connect(settle)
    app.on_before_shutdown.connect(finish)


async def _commit(app: faust.App) -> None:
    """Commit all that is acknowledged by now, where that can be done; never raises.

    Where Faust is committing already, its own `commit` waits for that and does no more: records that were acknowledged
    since it began would be processed again.
    """

    async def commit() -> None:
        await app.consumer.maybe_wait_for_commit_to_finish()
        await app.consumer.commit()

    await unharmed(commit(), _COMMIT_S, "commit")


async def unharmed(work: Coroutine[Any, Any, None], timeout_s: float, what: str) -> None:
    """Wait for `work` of Faust's, which can hang, fail, or be cancelled by Faust itself once a part of it has crashed.

    Whatever becomes of it, the caller goes on with its own clean-up.
    """
    task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait([task], timeout=timeout_s)
    if not done:
        task.cancel()
        log.warning("Faust did not end in time", what=what, waited_s=timeout_s)
    elif task.cancelled() or task.exception() is not None:
        reason = "cancelled" if task.cancelled() else repr(task.exception())
        log.warning("Faust failed to end", what=what, reason=reason)


def add_readiness(app: faust.App, labeller: Labeller) -> None:
    """Serve /ready: 200 once the group has given this worker its partitions and the model has answered, else 503."""
    assigned = False

    async def on_assigned(*_: Any, **__: Any) -> None:
        nonlocal assigned
        assigned = True
        log.info("partitions assigned", partitions=len(app.consumer.assignment()))

    async def on_revoked(*_: Any, **__: Any) -> None:
        nonlocal assigned
        assigned = False

    async def ready(view: Any, _request: Any) -> Any:
        state = {"partitions": assigned, "model": labeller.ready}
        return view.json(state, status=200 if all(state.values()) else 503)

    app.on_rebalance_complete.connect(on_assigned)
    app.on_partitions_revoked.connect(on_revoked)
    app.page("/ready")(ready)
