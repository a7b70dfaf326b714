"""A Kafka broker's data folder: its settings file, its formatted storage, and who runs on it."""

from __future__ import annotations

import base64
import os
import struct
import tempfile
import uuid
from pathlib import Path

from local.errors import DataFolderInUse, DataFolderUnusable
from local.locks import lock_holder
from local.ports import HOST
from local.processes import run_to_end

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
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # what microphones heard is in it
        (folder / "server.properties").touch()
    except OSError as error:
        raise DataFolderUnusable(
            f"cannot keep Kafka's data in {folder} ({error.strerror}); choose a folder that you may write to"
        ) from error


def usable_folder(given: Path | None) -> Path:
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


def write_properties(folder: Path, port: int, controller_port: int) -> Path:
    """Write the broker's settings for listeners on these ports, and return their file."""
    properties = folder / "server.properties"
    logs = _escaped(folder / "logs")
    properties.write_text(_PROPERTIES.format(host=HOST, port=port, controller_port=controller_port, logs=logs))
    return properties


def format_storage(command: list[str], properties: Path) -> None:
    """Format the storage that `properties` names with Kafka's Java `command`, as it requires before a first start."""
    if (properties.parent / "logs" / "meta.properties").exists():
        return
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
    command = [*command, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "--config", str(properties)]
    status, said = run_to_end("Kafka's StorageTool", command, java_environment())
    if status != 0:
        raise DataFolderUnusable(
            f"Kafka could not format its storage in {properties.parent}; choose an empty data folder. It said:\n"
            f"{without_frames(said, 10)}"
        )


def java_environment() -> dict[str, str]:
    """The environment of a Java that can name any file: in the locale C it could not name `Küche`."""
    return {**os.environ, "LC_ALL": "C.UTF-8"}


def without_frames(lines: list[str], last: int) -> str:
    """The last lines but for those of Java's stack traces that only name a place in Kafka's code; indented."""
    told = [line for line in lines if not line.startswith("\tat ")]
    return "\n".join(f"  {line}" for line in told[-last:])


def _escaped(path: Path) -> str:
    """A path as a Java properties file takes it: printable ASCII, and any other as UTF-16 units in hexadecimal."""
    units = (unit for (unit,) in struct.iter_unpack(">H", str(path).encode("utf-16-be")))
    return "".join(chr(unit) if ord(" ") < unit < 127 and unit != ord("\\") else f"\\u{unit:04x}" for unit in units)
