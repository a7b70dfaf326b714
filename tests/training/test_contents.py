"""Digests of files: each is read once, and what cannot be read has none."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from training.data import contents
from training.data.clips import Clip
from training.data.contents import digests

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def clip(path: Path) -> Clip:
    return Clip(path, "a", 1, path.stem)


def test_files_of_one_content_are_alike_and_each_is_read_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = [clip(tmp_path / name) for name in ("a.wav", "b.wav", "c.wav", "gone.wav")]
    for one, content in zip(clips, (b"same", b"same", b"else"), strict=False):
        one.path.write_bytes(content)
    found = digests(clips)
    assert list(found) == clips[:3]
    assert found[clips[0]] == found[clips[1]] != found[clips[2]]
    assert "files" in capsys.readouterr().out
    read: list[Path] = []
    digest = contents._digest

    def counted(path: Path) -> bytes:
        read.append(path)
        return digest(path)

    monkeypatch.setattr(contents, "_digest", counted)
    assert digests(clips) == found
    assert (read, capsys.readouterr().out) == ([], "")
    for changed, time in ((b"elsf", 1), (b"longer", 1)):
        before = digests(clips)[clips[2]]
        clips[2].path.write_bytes(changed)
        os.utime(clips[2].path, ns=(time, time))
        assert digests(clips)[clips[2]] != before
    assert read == [clips[2].path, clips[2].path]


def test_pictures_are_alike_by_their_pixels_and_a_broken_one_has_no_digest(tmp_path: Path) -> None:
    pixels, text = Image.fromarray(np.eye(4, dtype=np.uint8)), PngInfo()
    text.add_text("whose", "mine")
    pixels.save(tmp_path / "a.png")
    pixels.save(tmp_path / "b.png", pnginfo=text)
    (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    a, b, c = (clip(tmp_path / f"{name}.png") for name in "abc")
    found = digests([a, b, c])
    assert found[a] == found[b]
    assert c not in found
