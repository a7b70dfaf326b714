from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from earshot.folders import cache_folder, state_folder, work_folder

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


def test_a_work_folder_is_gone_afterwards_even_if_ctrl_c_comes_while_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with work_folder("earshot-") as folder:
        (folder / "file").touch()
        assert (folder.parent, folder.stat().st_mode & 0o777) == (tmp_path, 0o700)
    make = Path.mkdir

    def interrupted(path: Path, mode: int) -> None:
        make(path, mode)
        assert list(tmp_path.iterdir()) == [path]
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "mkdir", interrupted)
    with pytest.raises(KeyboardInterrupt), work_folder("earshot-"):
        pass
    assert list(tmp_path.iterdir()) == []
