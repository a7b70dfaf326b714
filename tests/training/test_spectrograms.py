from __future__ import annotations

from typing import TYPE_CHECKING

from typer.testing import CliRunner

from tests.training.sounds import tone
from training.spectrograms import app

if TYPE_CHECKING:
    from pathlib import Path


def test_each_class_has_a_folder_of_pictures(tmp_path: Path) -> None:
    for name in ("dog/1.wav", "dog/2.wav", "siren/3.wav"):
        tone(tmp_path / "data" / name)
    ended = CliRunner().invoke(app, [str(tmp_path / "data"), str(tmp_path / "out")])
    assert ended.exit_code == 0
    assert f"3 pictures of 3 clips in {tmp_path / 'out'}" in ended.stdout
    assert len(list((tmp_path / "out" / "dog").glob("*.png"))) == 2


def test_what_is_wrong_is_told_with_the_next_step(tmp_path: Path) -> None:
    gone = CliRunner().invoke(app, [str(tmp_path / "gone"), str(tmp_path / "out")])
    assert gone.exit_code == 2
    assert "is not a folder; name UrbanSound8K's" in gone.stderr
    tone(tmp_path / "data" / "dog" / "1.wav")
    (tmp_path / "file").write_text("")
    refused = CliRunner().invoke(app, [str(tmp_path / "data"), str(tmp_path / "file")])
    assert refused.exit_code == 2
    assert "name a folder that you may write to" in refused.stderr
