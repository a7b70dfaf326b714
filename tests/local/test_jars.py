from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local.errors import CacheUnusable, JarsMissing, MavenMissing
from local.jars import KAFKA_VERSION, kafka_jars

if TYPE_CHECKING:
    from pathlib import Path

    from local.broker import Broker


def test_without_maven_and_jars_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MavenMissing, match="apt install maven") as caught:
        kafka_jars(tmp_path / "cache")
    assert f"Kafka {KAFKA_VERSION} is not in {tmp_path / 'cache'} yet" in str(caught.value)


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(CacheUnusable, match=r"cache/below .*EARSHOT_CACHE"):
        kafka_jars(tmp_path / "cache" / "below")


@pytest.mark.integration
def test_jars_that_are_in_the_cache_need_no_maven(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert list(kafka_jars().glob(f"kafka_*-{KAFKA_VERSION}.jar"))


@pytest.mark.integration
def test_a_maven_that_reaches_no_repository_is_quoted_and_leaves_nothing_half_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A home of its own, so that Maven has neither jars nor a mirror, and a proxy at which nothing listens.
    nowhere = " ".join(f"-D{scheme}.proxyHost=127.0.0.1 -D{scheme}.proxyPort=9" for scheme in ("http", "https"))
    monkeypatch.setenv("MAVEN_OPTS", f"-Duser.home={tmp_path} {nowhere}")
    with pytest.raises(JarsMissing, match="needs to reach Maven Central") as caught:
        kafka_jars(tmp_path / "cache")
    assert "Connection refused" in str(caught.value)
    assert "[ERROR]" not in str(caught.value)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["kafka.lock"]
