"""The broker itself: what it takes of the machine, what it keeps, and how it fails."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaConsumer, KafkaProducer

from earshot.admin import create_topics
from earshot.tail import LabelsUnavailable, TailSettings, labels
from earshot.topics import Topic
from local.broker import Broker
from local.errors import BrokerDied, DataFolderInUse, DataFolderUnusable, PortTaken
from local.java import find_java
from tests.local.test_processes import runs

if TYPE_CHECKING:
    from collections.abc import Iterable

LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
"""127.0.0.1, the same within IPv6, and ::1, as /proc writes them on a little-endian machine."""
NOTES = Topic("notes")
META = "meta.properties"
"""The file by which Kafka knows its storage again."""


def listening(pid: int) -> set[str]:
    """Addresses that a process listens on, as /proc writes them."""
    sockets = {entry.readlink().name for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()}
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets}


def write(broker: Broker, values: Iterable[bytes]) -> None:
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
    for value in values:
        producer.send(NOTES.name, value).get(30)
    producer.close()


def read(broker: Broker, count: int) -> list[bytes]:
    """The next `count` records of a consumer group, committed."""
    consumer: Any = KafkaConsumer(
        NOTES.name, bootstrap_servers=broker.bootstrap_servers, group_id="readers", auto_offset_reset="earliest"
    )
    values = [next(consumer).value for _ in range(count)]
    consumer.commit()
    consumer.close()
    return values


@pytest.mark.integration
def test_it_listens_on_loopback_alone_and_its_heap_is_bounded(broker: Broker) -> None:
    assert broker.pid is not None
    addresses = listening(broker.pid)
    assert addresses
    assert addresses <= LOOPBACK
    heap = re.search(r"-Xmx(\d+)m", Path(f"/proc/{broker.pid}/cmdline").read_text())
    assert heap is not None
    assert int(heap[1]) <= 400


@pytest.mark.integration
def test_records_and_offsets_are_there_again_after_a_restart_without_maven(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "java").symlink_to(find_java().path)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("LC_ALL", "C")
    folder = tmp_path / "Küche \\x"  # a properties file is Latin-1, and its backslashes escape
    with Broker(folder) as first:
        settings = TailSettings.read({"bootstrap_servers": first.bootstrap_servers})
        makes_it = f"has no topic labels; `earshot topics --bootstrap-servers {first.bootstrap_servers}` makes it"
        with pytest.raises(LabelsUnavailable, match=makes_it):
            next(labels(settings))
        create_topics(first.bootstrap_servers, partitions=1, topics=(NOTES,))
        write(first, [b"one", b"two"])
        assert read(first, 1) == [b"one"]
        with pytest.raises(DataFolderInUse, match=f"process {first.pid}"):
            Broker(folder).start()
        assert first.pid is not None
        pid = first.pid
    assert not runs(pid)
    assert {path.name for path in tmp_path.iterdir()} == {"programs", folder.name}
    assert folder.stat().st_mode & 0o077 == 0, "others could read what was heard"
    with Broker(folder) as second:
        write(second, [b"three"])
        assert read(second, 2) == [b"two", b"three"]


@pytest.mark.integration
def test_of_a_broker_without_a_data_folder_nothing_is_left_even_after_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    broker = Broker()
    with contextlib.suppress(ZeroDivisionError), broker:
        pid = broker.pid
        assert broker.data_dir.parent == tmp_path
        raise ZeroDivisionError
    assert pid is not None
    assert not runs(pid)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.integration
def test_a_broker_that_dies_while_it_starts_is_told_with_its_last_log_lines(broker: Broker, tmp_path: Path) -> None:
    shutil.copytree(broker.data_dir / "logs", tmp_path / "logs", ignore=lambda folder, names: {*names} - {META})
    meta = tmp_path / "logs" / META
    meta.write_text(meta.read_text().replace("node.id=1", "node.id=7"))
    damaged = Broker(tmp_path)
    with pytest.raises(BrokerDied) as caught:
        damaged.start()
    message = str(caught.value)
    assert message.startswith("Kafka ended while it started (exit status 1).")
    assert "start with another data folder" in message
    assert "Stored node id 7 doesn't match" in message
    assert "\tat " not in message
    assert damaged.pid is None


@pytest.mark.integration
def test_a_port_that_is_taken_is_told_before_anything_is_made(broker: Broker, tmp_path: Path) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"port {port} on 127.0.0.1 is taken; choose another"):
            Broker(tmp_path / "data", port).start()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.integration
@pytest.mark.parametrize(("name", "said"), [("file/data", "Not a directory"), ("a,b", "without a comma")])
def test_a_data_folder_that_will_not_do_is_named(broker: Broker, tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataFolderUnusable, match=said) as caught:
        Broker(tmp_path / name).start()
    assert str(tmp_path / name) in str(caught.value)
