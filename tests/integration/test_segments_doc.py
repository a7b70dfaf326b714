"""docs/segments.md is the contract of the topic: the program that it shows is run, its table checked."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.reading import first_segments
from tests.processors.segments import segment

if TYPE_CHECKING:
    from local.broker import Broker

DOC = Path(__file__).parents[2] / "docs" / "segments.md"
WAIT_S = 60.0


def test_the_table_names_the_headers_that_an_agent_sends() -> None:
    named = re.findall(r"^\| `([a-z_-]+)` \|", DOC.read_text(), re.MULTILINE)
    assert sorted(named) == sorted(name for name, _ in segment(1).to_record().headers)


@pytest.mark.integration
def test_the_program_sends_a_segment_that_is_one(broker: Broker) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL)
    program = program.replace("localhost:9092", broker.bootstrap_servers)
    subprocess.run([sys.executable, "-c", program], check=True, timeout=WAIT_S)

    found = first_segments(broker.bootstrap_servers, b"tuning-fork", WAIT_S)
    assert [one.device_id for one in found] == ["tuning-fork"]
    assert found[0].level_dbfs == pytest.approx(-3.01, abs=0.01)
