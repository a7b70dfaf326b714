"""Finds the Java that runs Kafka, and checks its version."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass

from local.errors import JavaMissing
from local.processes import run_to_end

LEAST_JAVA = 17
"""Kafka 4 runs its broker on Java 17 and later."""

_INSTALL = "Install one, on Debian or Ubuntu with `sudo apt install openjdk-17-jre-headless`, or point JAVA_HOME at it."


@dataclass(frozen=True, slots=True)
class Java:
    """A Java runtime that is new enough."""

    path: str
    version: str
    """As it names itself: "17.0.15"."""


def find_java() -> Java:
    """The Java of JAVA_HOME, or else of PATH; raises JavaMissing where there is none or it is too old."""
    home = os.environ.get("JAVA_HOME")
    path = shutil.which("java", path=os.path.join(home, "bin")) if home else shutil.which("java")  # noqa: PTH118
    if path is None:
        place = f"in JAVA_HOME ({home})" if home else "on PATH"
        raise JavaMissing(f"Kafka needs Java {LEAST_JAVA} or later and there is none {place}. {_INSTALL}")
    status, said = run_to_end("java", [path, "-version"])
    match = re.search(r'version "((?:1\.)?(\d+)[^"]*)"', "\n".join(said))
    if status != 0 or match is None:
        raise JavaMissing(f"{path} does not run as Java: {' '.join(said)}. {_INSTALL}")
    if int(match[2]) < LEAST_JAVA:
        raise JavaMissing(f"Kafka needs Java {LEAST_JAVA} or later and {path} is {match[1]}. {_INSTALL}")
    return Java(path, match[1])
