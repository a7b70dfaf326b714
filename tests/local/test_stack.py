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


def test_a_folder_without_a_version_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"holds no version of a model.*--model"), Stack(tmp_path, model=tmp_path):
        pass


def test_a_worker_that_never_gets_ready_is_explained_by_what_the_parts_said_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.stack.READY_TIMEOUT_S", 15.0)
    model = tmp_path / "model" / "1"
    model.mkdir(parents=True)
    (model / "saved_model.pb").write_bytes(b"no model")
    work = tmp_path / "work"
    work.mkdir()
    with (
        pytest.raises(StackError, match=r"(?s)not ready after 15 s; the model server's last lines:.*version is broken"),
        Stack(work, model=model.parent),
    ):
        pass
