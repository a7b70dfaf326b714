from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from earshot.folders import cache_folder, state_folder

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDERS = [(cache_folder, "EARSHOT_CACHE", "XDG_CACHE_HOME"), (state_folder, "EARSHOT_STATE", "XDG_STATE_HOME")]


@pytest.mark.parametrize(("folder", "own", "standard"), FOLDERS)
def test_earshots_own_variable_wins_over_the_desktops_and_that_over_the_home_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Callable[[], Path], own: str, standard: str
) -> None:
    monkeypatch.delenv(own, raising=False)
    monkeypatch.delenv(standard, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder().name == "earshot"
    assert folder().is_relative_to(tmp_path)
    monkeypatch.setenv(standard, "/var/desktop")
    assert folder() == Path("/var/desktop/earshot")
    monkeypatch.setenv(own, "~/mine")
    assert folder() == tmp_path / "mine"
