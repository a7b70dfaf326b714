from __future__ import annotations

import re
import socket

import pytest

from earshot.settings import SettingsError
from producers.settings import AgentSettings


def test_a_device_without_a_name_is_called_after_its_host() -> None:
    assert AgentSettings.read().device_id == re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())
    assert AgentSettings.read({"device_id": "barn-1"}).device_id == "barn-1"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gate", "loud"),
        ("vad_mode", "4"),
        ("energy_margin_db", "0"),
        ("queue_segments", "0"),
        ("metrics_port", "70000"),
        ("device_id", "a mic"),
        ("least_level_dbfs", "3"),
    ],
)
def test_a_value_out_of_bounds_is_named_with_its_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"EARSHOT_AGENT_{name.upper()}"):
        AgentSettings.read({name: value})


def test_a_misspelt_variable_is_told_the_nearest_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARSHOT_AGENT_VAD_MODUS", "2")
    with pytest.raises(SettingsError, match="EARSHOT_AGENT_VAD_MODE"):
        AgentSettings.read()
