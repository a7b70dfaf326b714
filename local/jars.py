"""Kafka's jars: fetched once by Maven from `pom.xml`, then kept in the cache folder."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

from earshot.folders import cache_folder
from local.errors import CacheUnusable, JarsMissing, MavenMissing
from local.locks import exclusive
from local.processes import run_to_end

POM = Path(__file__).with_name("pom.xml")

_found = re.search(r"<kafka\.version>([^<]+)<", POM.read_text())
assert _found, f"{POM} names no kafka.version"  # noqa: S101
KAFKA_VERSION = _found[1]

_ERROR_LINES = 8


def kafka_jars(cache: Path | None = None) -> Path:
    """The folder with the broker's jars in `cache` (the user's cache folder by default), fetched where it is missing.

    It appears under its name only when whole, and is fetched once however many processes ask at a time. Its name has
    a digest of the pom, so that a changed pom is fetched anew. Raises MavenMissing, JarsMissing or CacheUnusable.
    """
    cache = cache or cache_folder()
    digest = hashlib.sha256(POM.read_bytes()).hexdigest()[:8]
    folder = cache / f"kafka-{KAFKA_VERSION}-{digest}"
    try:
        if not folder.is_dir():
            with exclusive(cache / "kafka.lock"):
                if not folder.is_dir():
                    _fetch(folder)
    except OSError as error:
        raise CacheUnusable(
            f"Kafka cannot be kept in {cache} ({error.strerror or error}); set EARSHOT_CACHE to a folder that you may "
            "write to"
        ) from error
    return folder


def _fetch(folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise MavenMissing(
            f"Kafka {KAFKA_VERSION} is not in {folder.parent} yet, and Maven, which fetches it, is not on PATH. "
            "Install it, on Debian or Ubuntu with `sudo apt install maven`."
        )
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    command = [
        *(maven, "--batch-mode", "--quiet", "--strict-checksums", "--file", str(POM)),
        "org.apache.maven.plugins:maven-dependency-plugin:copy-dependencies",
        *("-DincludeScope=runtime", f"-DoutputDirectory={partial}"),
    ]
    status, said = run_to_end("Maven", command)
    if status != 0:
        shutil.rmtree(partial, ignore_errors=True)
        raise JarsMissing(
            f"Maven could not fetch Kafka {KAFKA_VERSION}; it needs to reach Maven Central, or a mirror named in "
            f"~/.m2/settings.xml, once. It said:\n{_complaint(said)}"
        )
    partial.rename(folder)


def _complaint(output: list[str]) -> str:
    """What Maven said went wrong, without its colours and its advice on how to run it again."""
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in output]
    lines = [line.removeprefix("[ERROR]").strip() for line in plain]
    told = [line for line in lines if line and not line.startswith(("[Help", "To see", "Re-run", "For more", "[INFO]"))]
    return "\n".join(f"  {line}" for line in told[-_ERROR_LINES:])
