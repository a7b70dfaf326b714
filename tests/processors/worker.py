"""A worker as a process of its own, and what it reads and writes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from earshot.admin import create_topics
from earshot.labels import Label
from earshot.topics import Topic
from local.ports import HOST, free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from earshot.segments import Record
    from local.broker import Broker

PATIENCE_S = 90.0
"""Longest wait for what should happen; a bound on a failing test, not a claim about speed."""


class Topics:
    """Three topics of a test's own."""

    def __init__(self, broker: Broker, partitions: int = 4) -> None:
        unique = uuid.uuid4().hex[:8]
        self.bootstrap_servers = broker.bootstrap_servers
        self.segments, self.labels, self.dead_letters = (
            f"{name}-{unique}" for name in ("segments", "labels", "dead-letters")
        )
        names = (self.segments, self.labels, self.dead_letters)
        create_topics(self.bootstrap_servers, partitions=partitions, topics=tuple(Topic(name) for name in names))

    def send(self, records: Iterable[Record]) -> None:
        producer = KafkaProducer(bootstrap_servers=self.bootstrap_servers)
        for record in records:
            producer.send(self.segments, key=record.key or None, value=record.value, headers=record.headers)
        producer.flush()
        producer.close()

    def read(self, topic: str, until: Callable[[list[Any]], bool], *others: str) -> list[Any]:
        """All records of `topic`, and of `others`, as soon as `until` holds for them."""
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap_servers, auto_offset_reset="earliest")
        consumer.assign(
            [
                TopicPartition(name, partition)
                for name in (topic, *others)
                for partition in consumer.partitions_for_topic(name) or set()
            ]
        )
        found: list[Any] = []
        give_up_at = time.monotonic() + PATIENCE_S
        try:
            while not until(found):
                assert time.monotonic() < give_up_at, f"only {len(found)} records on {topic} after {PATIENCE_S} s"
                for records in consumer.poll(timeout_ms=200).values():
                    found.extend(records)
        finally:
            consumer.close()
        return found

    def read_labels(self, segment_ids: Iterable[str]) -> list[Label]:
        """All labels as soon as each of `segment_ids` has one."""
        wanted = set(segment_ids)

        def complete(records: list[Any]) -> bool:
            return len(records) >= len(wanted) and wanted <= {
                json.loads(record.value)["segment_id"] for record in records
            }

        return [Label.from_record(record.value) for record in self.read(self.labels, complete)]

    def is_labelled(self, segment_id: str) -> bool:
        """Whether a segment got a label, as soon as it has that or a dead letter."""
        own = segment_id.encode()

        def outcomes(records: list[Any]) -> list[Any]:
            return [one for one in records if own in one.value or own == dict(one.headers).get("ce_id")]

        found = self.read(self.labels, lambda records: bool(outcomes(records)), self.dead_letters)
        return bool(outcomes(found)[0].topic == self.labels)


class Worker:
    """`python -m processors` with settings in its environment, in a working directory of its own."""

    def __init__(self, topics: Topics, model_server: str, **settings: object) -> None:
        (self.port,) = free_ports(1)
        self.directory = tempfile.TemporaryDirectory(prefix="earshot-test-")
        self.log = Path(self.directory.name, "worker.log")
        values = {
            "group": f"group-{topics.segments}",
            "segments_topic": topics.segments,
            "labels_topic": topics.labels,
            "dead_letters_topic": topics.dead_letters,
            "model_server": model_server,
            "web_port": self.port,
            **settings,
        }
        self._environment = {
            **os.environ,
            "EARSHOT_BOOTSTRAP_SERVERS": topics.bootstrap_servers,
            **{f"EARSHOT_PROCESSOR_{name.upper()}": str(value) for name, value in values.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        self.workdir = Path(self.directory.name, "cwd")
        self.workdir.mkdir()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "processors"], cwd=self.workdir, env=self._environment, stdout=log, stderr=log
            )
        return self

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def get(self, path: str) -> tuple[int, str]:
        """Status and body; status 0 while nothing listens."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.port}{path}", timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def wait_until_ready(self) -> Self:
        give_up_at = time.monotonic() + PATIENCE_S
        while self.get("/ready")[0] != 200:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < give_up_at, self.log.read_text()
            time.sleep(0.1)
        return self

    def wait(self) -> int:
        return self.process.wait(PATIENCE_S)

    @property
    def last_line(self) -> str:
        """Of its log, also when it has ended."""
        return self.log.read_text().splitlines()[-1]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def terminate(self) -> int:
        """Exit status after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self.directory.cleanup()
