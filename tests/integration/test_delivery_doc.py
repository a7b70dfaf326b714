"""docs/delivery.md says how dead letters are sent back: the program that it shows is run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kafka import KafkaProducer

from earshot.deadletters import dead_letter
from earshot.topics import DEAD_LETTERS, SEGMENTS
from tests.integration.reading import first_segments
from tests.processors.segments import segment

if TYPE_CHECKING:
    from earshot.deadletters import Stage
    from earshot.segments import Record, Segment
    from local.broker import Broker

pytestmark = pytest.mark.integration

DOC = Path(__file__).parents[2] / "docs" / "delivery.md"
WAIT_S = 60.0


def buried(one: Segment, stage: Stage) -> Record:
    key, value, headers = one.to_record()
    return dead_letter(
        key, value, headers, error=RuntimeError("gone"), stage=stage, topic=SEGMENTS, partition=0, offset=7
    )


def test_segments_that_met_no_model_are_sent_back_as_they_were(broker: Broker) -> None:
    lost, broken = segment(1, device_id="buried"), segment(2, device_id="buried")
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
    for key, value, headers in (buried(broken, "decode"), buried(lost, "predict")):
        producer.send(DEAD_LETTERS, key=key, value=value, headers=headers)
    producer.close()

    (program,) = re.findall(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL)
    program = program.replace("localhost:9092", broker.bootstrap_servers)
    subprocess.run([sys.executable, "-c", program], check=True, timeout=WAIT_S)

    found = first_segments(broker.bootstrap_servers, b"buried", WAIT_S)
    assert [one.segment_id for one in found] == [lost.segment_id]
    assert found[0].to_record() == lost.to_record()
