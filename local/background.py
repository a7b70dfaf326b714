"""A Kafka broker in the background, on a data folder that is kept: what `earshot local` starts, stops and shows.

Kafka locks its data folder for as long as it lives, so the lock says whether a broker runs and which process it is.
There is no file of our own that could say otherwise after a crash.
"""

from __future__ import annotations

import os
import select
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from earshot.admin import create_topics
from earshot.folders import state_folder
from local.broker import Broker
from local.errors import BrokerError
from local.locks import exclusive
from local.storage import broker_address, broker_pid, make_data_folder

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_PORT = 9092
STOP_GRACE_S = 20.0
_START_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Running:
    """A broker that runs on a data folder."""

    pid: int
    bootstrap_servers: str
    """Where clients connect: "127.0.0.1:PORT"."""


def default_data_dir() -> Path:
    """The data folder of a broker that was given none."""
    return state_folder() / "kafka"


def find(data_dir: Path) -> Running | None:
    """The broker that runs on `data_dir`, or None."""
    try:
        pid = broker_pid(data_dir)
        return None if pid is None else Running(pid, broker_address(data_dir))
    except PermissionError as error:
        raise BrokerError(f"the data folder {data_dir} belongs to another user; run this as that user") from error


def up(data_dir: Path, port: int = DEFAULT_PORT) -> tuple[Running, bool]:
    """The broker on `data_dir` with the project's topics, and whether it had to be started.

    One that runs already stays as it is, whatever its port. Raises BrokerError or earshot.admin.TopicsError.
    """
    make_data_folder(data_dir)
    with exclusive(data_dir / "up.lock"):
        running = find(data_dir)
        if running is not None:
            # It may be starting still: `up` was killed, and a broker in the background was not.
            create_topics(running.bootstrap_servers, wait_s=_START_PATIENCE_S)
            return running, False
        broker = Broker(data_dir, port, background=True)
        broker.start()
        try:
            create_topics(broker.bootstrap_servers)
            running = find(data_dir)
            if running is None:
                raise BrokerError("\n".join(["Kafka ended after it had started; its last log lines:", *broker.tail()]))
        except BaseException:
            broker.stop()
            raise
        return running, True


def down(data_dir: Path, grace_s: float = STOP_GRACE_S) -> Running | None:
    """Stop the broker on `data_dir`, by force after `grace_s`; its data stays. What was stopped, or None."""
    running = find(data_dir)
    if running is None:
        return None
    try:
        # A descriptor stands for this one process, even if its number is given to another in the meantime.
        process = os.pidfd_open(running.pid)
    except ProcessLookupError:  # it was about to end
        return running
    try:
        if broker_pid(data_dir) != running.pid:  # it has ended, and its number may be another process's
            return running
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if not select.select([process], [], [], grace_s)[0]:
            signal.pidfd_send_signal(process, signal.SIGKILL)
            select.select([process], [], [])
    except ProcessLookupError:  # it ended by itself
        pass
    except PermissionError as error:
        raise BrokerError(f"process {running.pid} belongs to another user; stop it as that user") from error
    finally:
        os.close(process)
    return running


def end_offsets(bootstrap_servers: str) -> dict[str, int]:
    """Records ever appended to each topic, over its partitions; Kafka's own topics left out."""
    from kafka import KafkaConsumer, TopicPartition
    from kafka.errors import KafkaError

    try:
        consumer = KafkaConsumer(bootstrap_servers=bootstrap_servers, client_id="earshot-status")
        try:
            totals = {}
            for topic in sorted(topic for topic in consumer.topics() if not topic.startswith("__")):
                partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
                totals[topic] = sum(consumer.end_offsets(partitions).values())
            return totals
        finally:
            consumer.close()
    except KafkaError as error:
        raise BrokerError(f"the broker at {bootstrap_servers} runs but does not answer ({error})") from error
