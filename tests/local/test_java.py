"""Which Java is taken. Scripts stand in for those that are too old or broken: a machine has one Java."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local.errors import JavaMissing
from local.java import find_java

if TYPE_CHECKING:
    from pathlib import Path


def java(home: Path, script: str) -> None:
    (home / "bin").mkdir()
    (home / "bin" / "java").write_text(script)
    (home / "bin" / "java").chmod(0o755)


def complaint() -> str:
    with pytest.raises(JavaMissing) as caught:
        find_java()
    return str(caught.value)


@pytest.mark.integration
def test_the_java_of_path_is_found_with_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert int(find_java().version.partition(".")[0]) >= 17


def test_without_java_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "there is none on PATH" in complaint()
    assert "apt install openjdk-17-jre-headless" in complaint()


def test_a_java_home_without_a_java_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert f"there is none in JAVA_HOME ({tmp_path})" in complaint()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("#!/bin/sh\necho 'openjdk version \"11.0.26\" 2025-01-21' >&2", "is 11.0.26. Install"),
        ("#!/bin/sh\necho 'java version \"1.8.0_401\"' >&2", "is 1.8.0_401. Install"),
        ("#!/bin/sh\necho 'no space left' >&2; exit 1", "does not run as Java: no space left. Install"),
        ("\x7fELF for another processor", "java: Exec format error. Install"),
    ],
)
def test_a_java_that_will_not_do_is_named_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, said: str
) -> None:
    java(tmp_path, script)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert str(tmp_path / "bin" / "java") in complaint()
    assert said in complaint()
