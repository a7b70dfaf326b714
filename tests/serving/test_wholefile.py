from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from serving.wholefile import whole_file

if TYPE_CHECKING:
    from pathlib import Path


def test_two_that_write_at_once_each_leave_a_whole_file_and_the_last_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with whole_file(path) as first, whole_file(path) as second:
        first.write(b"fir")
        second.write(b"second")
        first.write(b"st")
        assert not path.exists()
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    with pytest.raises(TypeError), whole_file(path) as file:
        file.writelines([b"half", None])  # type: ignore[list-item]
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]
