"""The consumers of labels that README.md shows, run as they stand but for the broker's address."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from kafka import KafkaProducer

from earshot.labels import Label
from earshot.topics import LABELS
from tests.processors.segments import segment
from tests.test_readme import blocks

if TYPE_CHECKING:
    from pathlib import Path

    from local.broker import Broker

pytestmark = pytest.mark.integration

WAIT_S = 60.0


def bark(broker: Broker) -> Label:
    """Put the label of a bark on the topic."""
    label = Label.of(segment(device_id="yard"), {"dog_bark": 0.9, "siren": 0.1}, model_name="earshot", model_version=1)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
    key, value, headers = label.to_record()
    producer.send(LABELS, key=key, value=value, headers=headers)
    producer.close()
    return label


@pytest.mark.parametrize(
    ("library", "options", "says"),
    [("from kafka", [], "yard barks"), ("import faust", ["worker", "--without-web"], "yard dog_bark 0.9")],
    ids=["kafka-python", "faust"],
)
def test_a_program_prints_the_barks_that_it_is_there_for(
    broker: Broker, tmp_path: Path, library: str, options: list[str], says: str
) -> None:
    (program,) = (block for block in blocks("python") if library in block)
    path = tmp_path / "consumer.py"
    path.write_text(program.replace("localhost:9092", broker.bootstrap_servers))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-u", str(path), *options], cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        give_up_at = time.monotonic() + WAIT_S
        while says not in (said := (tmp_path / "log").read_text()):
            assert process.poll() is None, said
            assert time.monotonic() < give_up_at, said
            bark(broker)  # again and again: it may not have begun to listen
            time.sleep(0.5)
    finally:
        process.kill()
        process.wait()


def test_kcat_prints_what_the_topic_holds(broker: Broker) -> None:
    label = bark(broker)
    (line,) = (line for block in blocks("sh") for line in block.splitlines() if line.startswith("kcat"))
    command = line.replace("localhost:9092", broker.bootstrap_servers)
    done = subprocess.run(["bash", "-c", f"{command} -e"], capture_output=True, timeout=WAIT_S, check=True)
    assert f"yard {label.model_dump_json()}".encode() in done.stdout.splitlines()  # others may not be text
