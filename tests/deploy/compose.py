"""Reads docker-compose.yml and deploy/Dockerfile as the tests need them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "deploy" / "Dockerfile"

_VARIABLE = re.compile(r"\$\{(?P<name>\w+):-(?P<default>[^}]*)\}")


def interpolated(value: Any, variables: dict[str, str]) -> Any:
    """`value` with each ${NAME:-default} filled in, the only form that the file uses; after YAML, as engines do it."""
    if isinstance(value, dict):
        return {key: interpolated(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolated(item, variables) for item in value]
    if not isinstance(value, str):
        return value
    filled = _VARIABLE.sub(lambda match: variables.get(match["name"]) or match["default"], value)
    assert "$" not in filled, f"a form of variable that these tests do not know: {value}"
    return filled


def compose(**variables: str) -> dict[str, Any]:
    """The compose file as an engine sees it, with `variables` set."""
    document: dict[str, Any] = interpolated(yaml.safe_load(COMPOSE.read_text()), variables)
    return document


def services() -> dict[str, dict[str, Any]]:
    """The services by name."""
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


def own_services() -> dict[str, dict[str, Any]]:
    """The services that run the project's own images."""
    return {name: service for name, service in services().items() if "build" in service}


def instructions(keyword: str, target: str | None = None) -> list[str]:
    """What follows each `keyword` in the Dockerfile, in the stage `target` or in all; joined over line ends."""
    text = re.sub(r"\\\n\s*", " ", DOCKERFILE.read_text())
    found, stage = [], ""
    for line in text.splitlines():
        if match := re.match(r"FROM \S+ AS (\S+)", line):
            stage = match[1]
        if line.startswith(f"{keyword} ") and target in {None, stage}:
            found.append(line.removeprefix(f"{keyword} "))
    return found


def words(value: str) -> list[str]:
    """The words of an instruction in its JSON form."""
    parsed: list[str] = json.loads(value)
    return parsed


def command_line(target: str, command: list[str] | None = None) -> list[str]:
    """What a container of an image runs: its entry point, then `command` or else the image's own."""
    entry_point = [word for value in instructions("ENTRYPOINT", target) for word in words(value)]
    own = [word for value in instructions("CMD", target) for word in words(value)]
    return entry_point + (own if command is None else command)


def health_check(service: dict[str, Any]) -> list[str] | None:
    """The words of a service's health check: its own, or else its image's; None where it is told to have none."""
    own = service.get("healthcheck")
    if own is not None:
        if own.get("disable"):
            return None
        test = own["test"]
        return ["sh", "-c", test] if isinstance(test, str) else test[1:]
    if "build" not in service:
        return None
    (check,) = instructions("HEALTHCHECK", service["build"]["target"])
    return None if check == "NONE" else words(check.partition(" CMD ")[2])


def without_earshot_variables() -> dict[str, str]:
    """This process's environment without the project's settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("EARSHOT_")}
