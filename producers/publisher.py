"""The publisher: sends segments to Kafka, and rides out a broker that is away.

kafka-python's producer keeps what is not acknowledged yet, retries for as long as it takes, and, being idempotent,
writes each segment once. It bounds nothing by itself, so this module counts.

What is lost, and when:

- the broker is away for longer than the queue lasts: segments cut while the queue is full (`queue_segments`; older ones
  are kept, so an outage has one hole, at its end);
- the broker refuses a segment for good, as where it is larger than the topic allows, or the topic was deleted: with all
  that is queued, as kafka-python's idempotent producer then sends nothing any more, and another has to be made;
- the process is killed, or ends before the queue could be sent within `flush_s`: what the queue held.
"""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError

from earshot.logs import get_log
from earshot.topics import SEGMENTS
from producers import metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from earshot.segments import Segment
    from producers.settings import AgentSettings

log = get_log(__name__)

LOG_EVERY_S = 30.0
"""An outage is one line of log so often, not one a segment."""
OUTAGE_S = 10.0
"""Queued segments of which none is acknowledged for so long are an outage."""
SEND_BLOCKS_S = 2.0
"""Longest time that `send` waits, and only where the topic has vanished from the broker."""
POLL_S = 0.05
"""How often `wait_for_room` and `flush` look."""
CLOSE_S = 5.0
"""Longest wait for the producer's threads to end."""
BATCH_BYTES = 512 * 1024
"""Five segments a request: so much faster is a queue sent once the broker is back. Brokers take 1 MiB by default."""


class PublisherError(RuntimeError):
    """Segments cannot be sent; the message says what to do."""


class BrokerUnreachable(PublisherError):
    """No broker answered, or none answered what it was asked."""


class TopicMissing(PublisherError):
    """The broker has no such topic."""


class TopicForbidden(PublisherError):
    """The broker does not let this agent see the topic; that it may not write to it shows at its first segment."""


class Refused(PublisherError):
    """The broker refused a segment for good, and nothing can be sent any more."""


class Publisher:
    """Sends the segments of one device; close it, or use it as a context manager.

    `on_ack(segment, timestamp_ms)` is called, on the producer's thread, for each segment that the broker has written,
    with the record's timestamp (milliseconds since 1970).
    """

    def __init__(
        self,
        settings: AgentSettings,
        on_ack: Callable[[Segment, int], None] | None = None,
        topic: str = SEGMENTS,
    ) -> None:
        """Waits some `broker_wait_s` for the broker, and for what it says of the topic.

        Raises BrokerUnreachable, TopicMissing or TopicForbidden.
        """
        self._topic = topic
        self._on_ack = on_ack
        self._queue_segments = settings.queue_segments
        self._flush_s = settings.flush_s
        self._lock = threading.Lock()
        self._quiet_until_s = 0.0
        self._progress_s = 0.0  # when the queue was last empty, or a segment acknowledged
        self._outage = False
        self._closing = False
        self.queued = 0
        """Segments that wait for the broker's acknowledgement."""
        self.sent = 0
        """Segments that it has acknowledged."""
        self.dropped = 0
        """Segments that are lost."""
        self._producer = _connect(settings)
        try:
            self._require_topic(settings)
        except BaseException:
            self._force_close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, segment: Segment) -> bool:
        """Queue `segment`; False where it had to be dropped. Does not wait for the broker.

        Raises Refused where the broker has refused one before.
        """
        refusal = self._producer._transaction_manager  # noqa: SLF001 - kafka-python has no public way
        if refusal.has_fatal_error():
            self._dropped("refused", refusal.last_error)
            raise Refused(
                f"the broker refused a segment for good, and Kafka's producer sends no more ({refusal.last_error}); "
                "look at the topic's settings and rights, and start again, as a service does by itself"
            )
        with self._lock:
            if self.queued == 0:
                self._progress_s = time.monotonic()
            full = self.queued >= self._queue_segments
            if not full:
                self.queued += 1
        if full:
            self._dropped("queue_full")
            return False
        self._note_outage()
        metrics.QUEUE.inc()
        record = segment.to_record()
        try:
            future = self._producer.send(self._topic, value=record.value, key=record.key, headers=record.headers)
        except KafkaError as error:
            self._failed(error)
            return False
        acked = segment if self._on_ack is not None else None
        future.add_callback(partial(self._acknowledged, acked, segment.trigger, time.monotonic()))
        future.add_errback(self._failed)
        return True

    def wait_for_room(self, given_up: Callable[[], bool]) -> None:
        """Wait until the queue has room, or until `given_up()`: for sound that can wait, as that of recordings can."""
        while self.queued >= self._queue_segments and not given_up():
            self._note_outage()
            time.sleep(POLL_S)

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until all that is queued is acknowledged; False where it is not within `timeout_s` (`flush_s`)."""
        until_s = time.monotonic() + (self._flush_s if timeout_s is None else timeout_s)
        while self.queued and time.monotonic() < until_s:  # kafka-python's own would wait so long for each batch
            time.sleep(POLL_S)
        return not self.queued

    def close(self) -> None:
        """Let go of the broker, at once: what `flush` has not sent is lost."""
        if self._closing:
            return
        self._closing = True
        if self.queued:
            log.error("the broker did not acknowledge in time, queued segments are lost", segments=self.queued)
            self._force_close()
        else:
            self._producer.close(timeout=CLOSE_S)

    def _force_close(self) -> None:
        # close() waits for the broker, raises, and leaves the producer's threads behind; only this ends them.
        self._producer._sender.force_close()  # noqa: SLF001 - kafka-python has no public way
        self._producer.close(timeout=CLOSE_S)

    def _acknowledged(self, segment: Segment | None, trigger: str, queued_s: float, written: Any) -> None:
        """Called on the producer's thread."""
        with self._lock:
            self.queued -= 1
            self.sent += 1
            self._progress_s = time.monotonic()
            recovered, self._outage = self._outage, False
        metrics.QUEUE.dec()
        metrics.SEGMENTS_SENT.labels(trigger).inc()
        metrics.SEND_LATENCY.observe(time.monotonic() - queued_s)
        if recovered:
            log.info("the broker acknowledges again", queued=self.queued, dropped_so_far=self.dropped)
        if segment is not None and self._on_ack is not None:
            self._on_ack(segment, written.timestamp)

    def _note_outage(self) -> None:
        if self.queued and time.monotonic() - self._progress_s > OUTAGE_S:
            self._outage = True
            self._say("the broker does not acknowledge; segments wait in the queue", at_most=self._queue_segments)

    def _failed(self, error: Exception) -> None:
        """A queued segment will never be acknowledged."""
        with self._lock:
            self.queued -= 1
        metrics.QUEUE.dec()
        metrics.BROKER_ERRORS.labels(type(error).__name__).inc()
        self._dropped("stopped" if self._closing else "refused", error)

    def _dropped(self, reason: metrics.Dropped, error: Exception | None = None) -> None:
        metrics.SEGMENTS_DROPPED.labels(reason).inc()
        with self._lock:
            self.dropped += 1
        if reason != "stopped":
            self._say("segments are dropped", reason=reason, error=str(error or ""))

    def _say(self, event: str, **details: Any) -> None:
        """Log an error, unless one was logged a moment ago."""
        with self._lock:
            quiet = time.monotonic() < self._quiet_until_s
            if not quiet:
                self._quiet_until_s = time.monotonic() + LOG_EVERY_S
        if not quiet:
            log.error(event, queued=self.queued, dropped_so_far=self.dropped, **details)

    def _require_topic(self, settings: AgentSettings) -> None:
        """Wait until the producer knows the topic's partitions, so that no segment has to."""
        where = f"the broker at {settings.bootstrap_servers}"
        give_up_at_s = time.monotonic() + settings.broker_wait_s
        try:
            while not self._knows_topic():
                if self._is_without_topic():
                    raise TopicMissing(
                        f"{where} has no topic {self._topic!r}; make the topics with "
                        f"`earshot topics --bootstrap-servers {settings.bootstrap_servers}`"
                    )
                if time.monotonic() > give_up_at_s:
                    raise BrokerUnreachable(
                        f"{where} was there, but did not say within {settings.broker_wait_s:g} s where topic "
                        f"{self._topic!r} is; see whether it runs still, and whether it is overloaded"
                    )
        except TopicAuthorizationFailedError as error:
            raise TopicForbidden(
                f"{where} does not let this agent see topic {self._topic!r}; grant it DESCRIBE and WRITE"
            ) from error
        except KafkaError as error:
            raise BrokerUnreachable(f"{where} does not say where topic {self._topic!r} is: {error}") from error

    def _knows_topic(self) -> bool:
        try:
            self._producer.partitions_for(self._topic)
        except KafkaTimeoutError:  # there is no such topic, or no answer yet
            return False
        return True

    def _is_without_topic(self) -> bool:
        """Whether the broker says that it has no such topic; False where it says nothing."""
        said = threading.Event()
        asked = self._producer._metadata.request_update()  # noqa: SLF001 - kafka-python has no public way
        asked.add_both(lambda *_: said.set())
        said.wait(SEND_BLOCKS_S)
        return isinstance(asked.exception, UnknownTopicOrPartitionError)


def _connect(settings: AgentSettings) -> KafkaProducer:
    try:
        return KafkaProducer(
            bootstrap_servers=settings.bootstrap_servers.split(","),
            client_id=f"earshot-agent-{settings.device_id}",
            bootstrap_timeout_ms=round(settings.broker_wait_s * 1000),
            max_block_ms=round(SEND_BLOCKS_S * 1000),
            delivery_timeout_ms=float("inf"),
            reconnect_backoff_max_ms=2_000,
            batch_size=BATCH_BYTES,
            allow_auto_create_topics=False,
        )
    except KafkaError as error:
        raise BrokerUnreachable(
            f"no Kafka broker answered at {settings.bootstrap_servers} within {settings.broker_wait_s:g} s ({error}); "
            "start it, or say where it is with --bootstrap-servers"
        ) from error
