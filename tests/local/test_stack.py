from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local.stack import Stack, StackError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration


def test_settings_of_servers_and_workers_elsewhere_do_not_reach_this_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A model server of another name, and a worker of other topics, would never meet.
    monkeypatch.setenv("EARSHOT_SERVING_MODEL_NAME", "another")
    monkeypatch.setenv("EARSHOT_PROCESSOR_SEGMENTS_TOPIC", "others")
    with Stack(tmp_path) as stack:
        stack.check()


def test_a_part_that_dies_is_named_with_what_it_said_last(tmp_path: Path) -> None:
    with (
        pytest.raises(StackError, match=r"the model server ended with status 2; its last lines:\n.*no folder"),
        Stack(tmp_path, model=tmp_path / "no folder"),
    ):
        pass
