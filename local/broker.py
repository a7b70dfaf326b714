"""A real Apache Kafka on this machine: one node that is broker and controller (KRaft), on loopback only.

`with Broker() as broker:` gives a broker of one's own on a free port, whose data is gone afterwards; with a data
folder, what was written is there again the next time. Topics are never created by themselves: see
`earshot.admin.create_topics`. The first start on a machine has Maven fetch Kafka.
"""

from __future__ import annotations

import hashlib
import shutil
import socket
import time
from typing import TYPE_CHECKING, Self

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from local.errors import BrokerDied, BrokerSilent, PortTaken
from local.jars import kafka_jars
from local.java import Java, find_java
from local.locks import exclusive
from local.ports import HOST, free_ports, port_is_free
from local.processes import Child
from local.storage import format_storage, java_environment, usable_folder, without_frames, write_properties
from serving.child import signal_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_JVM = (
    "-Xms64m",
    "-Xmx384m",
    # Quick to start and light beside a model server, rather than fast for days.
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)

_START_TIMEOUT_S = 90.0
_STOP_GRACE_S = 20.0
_ARCHIVE_GRACE_S = 120.0
_POLL_S = 0.05
_PORT_ATTEMPTS = 3


class Broker:
    """A single-node Kafka broker. Every failure is a BrokerError whose message says what to do."""

    def __init__(
        self,
        data_dir: Path | None = None,
        port: int | None = None,
        *,
        background: bool = False,
        class_flags: Sequence[str] | None = None,
    ) -> None:
        """Describe the broker; nothing happens before `start`.

        data_dir: kept, and made where it is missing; None is a temporary one that `stop` removes.
        port: of the clients' listener; None is a free one.
        background: the broker outlives this process, which `local up` wants.
        class_flags: JVM flags instead of those that load Kafka's classes from the archive in the cache.
        """
        self._given_dir = data_dir
        self._given_port = port
        self._background = background
        self._class_flags = class_flags
        self._child: Child | None = None
        self._data_dir: Path | None = None
        self._port: int | None = None

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect: "127.0.0.1:PORT"."""
        if self._port is None:
            raise RuntimeError("the broker was not started")
        return f"{HOST}:{self._port}"

    @property
    def data_dir(self) -> Path:
        """Where it keeps its data, its `server.properties` and its log `broker.log`."""
        if self._data_dir is None:
            raise RuntimeError("the broker was not started")
        return self._data_dir

    @property
    def pid(self) -> int | None:
        """Its process id; None while it does not run."""
        return self._child.pid if self._child and self._child.poll() is None else None

    def start(self) -> None:
        """Start the broker and return when it answers a client."""
        if self._child is not None:
            raise RuntimeError("the broker runs already")
        java = find_java()
        jars = kafka_jars()
        class_path = ":".join(str(jar) for jar in sorted(jars.glob("*.jar")))
        class_flags = self._class_flags
        if class_flags is None:
            try:
                class_flags = _archived_classes(java, jars, class_path)
            except OSError:  # jars that may only be read: a start takes longer, that is all
                class_flags = []
        command = [java.path, *class_flags, *_JVM, "-cp", class_path]
        if self._given_port is not None and not port_is_free(self._given_port):
            raise PortTaken(
                f"port {self._given_port} on {HOST} is taken; choose another, or stop what listens there "
                f"(`ss -ltnp 'sport = :{self._given_port}'` names it)"
            )
        try:
            self._data_dir = usable_folder(self._given_dir)
            for attempts_left in reversed(range(_PORT_ATTEMPTS)):
                try:
                    self._run(command)
                    break
                except BrokerDied as death:  # a port was free when it was chosen, but no longer
                    if attempts_left == 0 or "Address already in use" not in str(death):
                        raise
        except BaseException:
            self.stop()
            raise

    def _run(self, command: list[str]) -> None:
        """Start Kafka on ports that are free now, and wait for it."""
        chosen, controller_port = free_ports(2)
        self._port = self._given_port or chosen
        properties = write_properties(self.data_dir, self._port, controller_port)
        format_storage(command, properties)
        self._child = Child(
            "Kafka",
            [*command, "kafka.Kafka", properties],
            java_environment(),
            self.data_dir / "broker.log",
            background=self._background,
        )
        self._child.start()
        self._wait()

    def _wait(self) -> None:
        """Return when the broker answers a client's request; raise where it ends or stays silent."""
        child = self._child
        assert child is not None  # noqa: S101
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            if (status := child.poll()) is not None:
                ended = f"exit status {status}" if status >= 0 else signal_name(-status)
                raise BrokerDied(
                    f"Kafka ended while it started ({ended}). If its data in {self.data_dir} is damaged, start with "
                    f"another data folder. Its last log lines:\n{_log_lines(child)}"
                )
            if _answers(self.bootstrap_servers):
                return
            if time.monotonic() > deadline:
                raise BrokerSilent(
                    f"Kafka did not answer at {self.bootstrap_servers} within {_START_TIMEOUT_S:.0f} s; is the machine "
                    f"short of memory or CPU? Its last log lines:\n{_log_lines(child)}"
                )
            time.sleep(_POLL_S)

    def stop(self, grace_s: float = _STOP_GRACE_S) -> None:
        """Stop the broker, by force after `grace_s`, and remove a temporary data folder; harmless if repeated."""
        try:
            if self._child is not None:
                self._child.stop(grace_s)
        finally:
            self._child = None
            if self._given_dir is None and self._data_dir is not None:
                shutil.rmtree(self._data_dir, ignore_errors=True)
            self._data_dir = None

    def tail(self, lines: int = 20) -> list[str]:
        """The last lines of its log."""
        return self._child.tail(lines) if self._child else []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _archived_classes(java: Java, jars: Path, class_path: str) -> list[str]:
    """JVM flags that load Kafka's classes from an archive beside its jars, made once by a rehearsal.

    It cuts the CPU time of a start by almost half: most of it is spent on reading and verifying 10,000 classes.
    """
    holds_for = hashlib.sha256(repr((java.version, _JVM, class_path)).encode()).hexdigest()[:8]
    archive = jars / f"classes-{java.version}-{holds_for}.jsa"
    if not archive.exists():
        with exclusive(jars.with_name(f"{jars.name}.lock")):
            if not archive.exists():
                partial = archive.with_suffix(".partial")
                partial.unlink(missing_ok=True)
                rehearsal = Broker(class_flags=[f"-XX:ArchiveClassesAtExit={partial}"])
                try:
                    rehearsal.start()
                finally:
                    rehearsal.stop(grace_s=_ARCHIVE_GRACE_S)
                if not partial.exists():
                    return []
                partial.rename(archive)
    return [f"-XX:SharedArchiveFile={archive}"]


def _log_lines(child: Child) -> str:
    """The last lines of its log that say something."""
    return without_frames(child.tail(200), 20)


def _answers(bootstrap_servers: str) -> bool:
    """Whether a broker there answers a client with the brokers of its cluster, itself among them."""
    host, port = bootstrap_servers.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=1.0).close()
        admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers, client_id="earshot-start")
    except (OSError, KafkaError):
        return False
    try:
        return bool(admin.describe_cluster()["brokers"])
    except KafkaError:
        return False
    finally:
        admin.close()
