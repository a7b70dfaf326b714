"""docs/operations.md and the systemd unit say what is true of the rest."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise

import pytest
import yaml

from producers.settings import AgentSettings
from tests.deploy.compose import COMPOSE, ROOT, command_line, services

PAGE = ROOT / "docs" / "operations.md"
TEXT = PAGE.read_text()
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL))
UNIT = [line.partition("=") for line in (ROOT / "deploy" / "earshot-agent.service").read_text().splitlines()]
OPTIONS_WITH_VALUE = {"-v", "-f", "--profile", "--scale", "--since", "--entrypoint"}


def unit(key: str) -> str:
    (value,) = [value for name, _, value in UNIT if name == key]
    return value


def named_services() -> set[str]:
    """Services that the page's `docker compose` commands name: the first word after up, run, restart or logs."""
    found = set()
    for line in re.findall(r"docker compose (.*)", TEXT.replace("\\\n", " ").replace("`", "\n")):
        words = shlex.split(line.split("#")[0].split("|")[0], posix=True)
        while words and words[0] not in {"up", "run", "restart", "logs"}:
            words.pop(0)
        plain = [
            word for before, word in pairwise(words) if not word.startswith("-") and before not in OPTIONS_WITH_VALUE
        ]
        found |= set(plain[:1])
    return found


def test_every_alert_is_explained_once_and_no_other() -> None:
    groups = yaml.safe_load((ROOT / "monitoring" / "rules.yml").read_text())["groups"]
    section = TEXT.partition("## Alerts")[2].partition("\n## ")[0]
    explained = re.findall(r"^\| ([A-Z]\w+) \|", section, re.MULTILINE)
    assert explained == [rule["alert"] for group in groups for rule in group["rules"]]


def test_the_services_and_profiles_that_it_names_are_there() -> None:
    profiles = {profile for service in services().values() for profile in service.get("profiles", [])}
    assert set(re.findall(r"--profile (\w+)", TEXT)) == profiles
    assert {"starter", "retrain", "replay", "agent", "worker", "model-server"} <= named_services() <= services().keys()


@pytest.mark.parametrize("variable", ["HOST_ADDRESS", "AUDIO_GID", "RECORDINGS", "DATA"])
def test_the_variables_that_it_names_are_the_compose_files(variable: str) -> None:
    assert f"{variable}=" in TEXT
    assert f"${{{variable}:-" in COMPOSE.read_text()


def test_addresses_that_it_names_are_published() -> None:
    published = {port.split(":")[-2] for service in services().values() for port in service.get("ports", [])}
    assert set(re.findall(r"localhost:(\d+)", TEXT)) == published


def test_every_file_linked_to_is_there() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)", TEXT)
    assert links
    assert [link for link in links if not (PAGE.parent / link).exists()] == []


def test_the_unit_runs_the_agent_and_leaves_it_time_to_send_what_is_queued() -> None:
    assert shlex.split(unit("ExecStart")) == ["/opt/earshot/bin/python", *command_line("agent")[1:]]
    assert "sudo python3 -m venv /opt/earshot" in SHELL
    assert int(unit("TimeoutStopSec")) > AgentSettings.read().flush_s


def test_the_units_environment_is_an_agents_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"/dev/stdin {unit('EnvironmentFile')} <<'END'" in SHELL
    lines = re.findall(r"<<'END'\n(.*?)END", SHELL, re.DOTALL)[0].split()
    for name, _, value in (line.partition("=") for line in lines):
        assert name in {AgentSettings.variable(field) for field in AgentSettings.model_fields}
        monkeypatch.setenv(name, value)
    assert AgentSettings.read().device_id == "kitchen"
