"""A real Apache Kafka on this machine: one node that is broker and controller (KRaft), on loopback only.

`with Broker() as broker:` gives a broker of one's own on a free port, whose data is gone afterwards; with a data
folder, what was written is there again the next time. Topics are never created by themselves: see
`earshot.admin.create_topics`. The first start on a machine has Maven fetch Kafka.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Self

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from local.errors import (
    BrokerDied,
    BrokerError,
    BrokerSilent,
    DataFolderInUse,
    DataFolderUnusable,
    PortTaken,
)
from local.jars import kafka_jars
from local.java import Java, find_java
from local.locks import exclusive, lock_holder
from local.processes import Child

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["HOST", "Broker", "BrokerError", "broker_address", "broker_pid", "make_data_folder"]

HOST = "127.0.0.1"

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

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners=CLIENTS://{host}:{port},CONTROLLER://{host}:{controller_port}
listener.security.protocol.map=CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=CLIENTS
controller.listener.names=CONTROLLER
controller.quorum.voters=1@{host}:{controller_port}
log.dirs={logs}
auto.create.topics.enable=false
# One node: nothing to replicate to, and few partitions of what Kafka keeps for itself, so that it starts fast.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
# A lone worker need not wait three seconds for others to join its group.
group.initial.rebalance.delay.ms=0
# The cleaner's buffer would otherwise take a third of the heap.
log.cleaner.dedupe.buffer.size=4194304
"""

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
            class_flags = _archived_classes(java, jars, class_path)
        command = [java.path, *class_flags, *_JVM, "-cp", class_path]
        if self._given_port is not None and not _port_is_free(self._given_port):
            raise PortTaken(
                f"port {self._given_port} on {HOST} is taken; choose another, or stop what listens there "
                f"(`ss -ltnp 'sport = :{self._given_port}'` names it)"
            )
        try:
            self._data_dir = _usable_folder(self._given_dir)
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
        chosen, controller_port = _free_ports()
        self._port = self._given_port or chosen
        properties = self.data_dir / "server.properties"
        logs = self.data_dir / "logs"
        properties.write_text(
            _PROPERTIES.format(host=HOST, port=self._port, controller_port=controller_port, logs=_escaped(logs))
        )
        if not (logs / "meta.properties").exists():
            _format(command, properties)
        self._child = Child(
            "Kafka",
            [*command, "kafka.Kafka", properties],
            _environment(),
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
                ended = f"exit status {status}" if status >= 0 else f"signal {-status}"
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


def broker_pid(data_dir: Path) -> int | None:
    """Pid of the broker that runs on `data_dir`; Kafka holds a lock there for as long as it lives."""
    return lock_holder(data_dir / "logs" / ".lock")


def broker_address(data_dir: Path) -> str:
    """Where the broker that runs on `data_dir` answers clients: "127.0.0.1:PORT"."""
    settings = (data_dir / "server.properties").read_text()
    return settings.partition("listeners=CLIENTS://")[2].partition(",")[0]


def make_data_folder(folder: Path) -> None:
    """Make the data folder where it is missing; raises DataFolderUnusable where it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "server.properties").touch()
    except OSError as error:
        raise DataFolderUnusable(
            f"cannot keep Kafka's data in {folder} ({error.strerror}); choose a folder that you may write to"
        ) from error


def _usable_folder(given: Path | None) -> Path:
    """The data folder, made where needed, that no other broker uses."""
    if given is None:
        return Path(tempfile.mkdtemp(prefix="earshot-kafka-"))
    folder = given.absolute()
    if "," in str(folder):
        raise DataFolderUnusable(f"Kafka takes {folder} for several folders; choose a data folder without a comma")
    make_data_folder(folder)
    if (pid := broker_pid(folder)) is not None:
        raise DataFolderInUse(f"another broker (process {pid}) runs on {folder}; stop it, or choose another folder")
    return folder


def _format(command: list[str], properties: Path) -> None:
    """Format the storage that `properties` names, as Kafka requires before a first start."""
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
    answer = subprocess.run(
        [*command, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "--config", properties],
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        said = _indented(_without_frames(answer.stdout.splitlines())[-10:])
        raise DataFolderUnusable(
            f"Kafka could not format its storage in {properties.parent}; choose an empty data folder. It said:\n{said}"
        )


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


def _escaped(path: Path) -> str:
    """A path as a Java properties file takes it: printable ASCII, and any other as UTF-16 units in hexadecimal."""
    units = (unit for (unit,) in struct.iter_unpack(">H", str(path).encode("utf-16-be")))
    return "".join(chr(unit) if ord(" ") < unit < 127 and unit != ord("\\") else f"\\u{unit:04x}" for unit in units)


def _environment() -> dict[str, str]:
    """The environment of a Java that can name any file: in the locale C it could not name `Küche`."""
    return {**os.environ, "LC_ALL": "C.UTF-8"}


def _log_lines(child: Child) -> str:
    """The last lines of its log that say something."""
    return _indented(_without_frames(child.tail(200))[-20:])


def _without_frames(lines: list[str]) -> list[str]:
    """Lines but for those of Java's stack traces that only name a place in Kafka's code."""
    return [line for line in lines if not line.startswith("\tat ")]


def _indented(lines: list[str]) -> str:
    return "\n".join(f"  {line}" for line in lines)


def _free_ports() -> tuple[int, int]:
    """Two free ports on loopback."""
    with socket.socket() as first, socket.socket() as second:
        first.bind((HOST, 0))
        second.bind((HOST, 0))
        return first.getsockname()[1], second.getsockname()[1]


def _port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


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
