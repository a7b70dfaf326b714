from __future__ import annotations

import os

import pytest
from pydantic import Field, ValidationError

from earshot.settings import KafkaSettings, SettingsError, settings_table
from local.settings import DemoSettings


class LampSettings(KafkaSettings, env_prefix="EARSHOT_LAMP_"):
    """A component as any other, with one setting of each kind."""

    colour: str = Field("red", pattern="^(red|green)$", description="Colour of the light: red or green.")
    brightness: int = Field(5, ge=0, le=10, description="Brightness, from 0 to 10.")
    noise_floor_dbfs: float = Field(-70.0, le=0, description="Level that lights it, in dBFS.")


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("EARSHOT_"):
            monkeypatch.delenv(name)


def refusal(options: dict[str, object] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        LampSettings.read(options)
    return str(caught.value)


def test_an_option_wins_over_the_variable_and_the_variable_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert LampSettings.read().brightness == 5
    monkeypatch.setenv("EARSHOT_LAMP_BRIGHTNESS", "6")
    monkeypatch.setenv("EARSHOT_BOOTSTRAP_SERVERS", "one:9092,two:9093")
    assert LampSettings.read({"brightness": None}).brightness == 6
    assert LampSettings.read({"brightness": None}).bootstrap_servers == "one:9092,two:9093"
    assert LampSettings.read({"brightness": "7", "bootstrap_servers": "three:9092"}).brightness == 7
    assert LampSettings.read({"brightness": "7", "bootstrap_servers": "three:9092"}).bootstrap_servers == "three:9092"


def test_an_option_that_is_named_apart_from_its_field_wins_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARSHOT_DEMO_JSON", "variable.json")
    assert str(DemoSettings.read().json_path) == "variable.json"
    assert str(DemoSettings.read({"json_path": "option.json"}).json_path) == "option.json"


def test_variables_that_are_not_earshots_set_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOG_LEVEL", "LOG_JSON", "BOOTSTRAP_SERVERS", "JSON", "BRIGHTNESS", "DEVICES"):
        monkeypatch.setenv(name, "trace")
    assert LampSettings.read() == LampSettings.model_construct()
    assert DemoSettings.read().json_path is None


def test_variables_of_other_components_are_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EARSHOT_AGENT_GATE", "EARSHOT_PROCESSOR_LOG_LEVEL", "EARSHOT_CACHE", "EARSHOT_LAMPSHADE"):
        monkeypatch.setenv(name, "anything")
    assert LampSettings.read().brightness == 5


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("EARSHOT_LAMP_BRIGHTNES", "EARSHOT_LAMP_BRIGHTNESS"),
        ("EARSHOT_LAMP_NOISE", "EARSHOT_LAMP_NOISE_FLOOR_DBFS"),
        ("EARSHOT_LAMP_COLOR", "EARSHOT_LAMP_COLOUR"),
        ("earshot_lamp_color", "EARSHOT_LAMP_COLOUR"),
        ("EARSHOT_LAMP_LOG_LEVEL", "EARSHOT_LOG_LEVEL"),
        ("EARSHOT_BOOTSTRAP_SERVER", "EARSHOT_BOOTSTRAP_SERVERS"),
    ],
)
def test_a_misspelt_variable_is_told_what_was_meant(monkeypatch: pytest.MonkeyPatch, written: str, meant: str) -> None:
    monkeypatch.setenv(written, "info")
    assert refusal() == f"{written} is not a setting; did you mean {meant}?"


def test_where_nothing_is_near_no_guess_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARSHOT_LAMP_QUUX", "1")
    assert refusal() == "EARSHOT_LAMP_QUUX is not a setting"


def test_every_fault_has_a_line_with_variable_option_value_and_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARSHOT_LAMP_COLOUR", "blue")
    monkeypatch.setenv("EARSHOT_LAMP_WATTS", "1")
    faults = refusal({"brightness": "11", "log_level": "loud"}).splitlines()
    assert sorted(faults) == [
        "EARSHOT_LAMP_BRIGHTNESS (--brightness) cannot be '11': Input should be less than or equal to 10",
        "EARSHOT_LAMP_COLOUR (--colour) cannot be 'blue': Colour of the light: red or green.",
        "EARSHOT_LAMP_WATTS is not a setting",
        "EARSHOT_LOG_LEVEL (--log-level) cannot be 'loud': Input should be 'debug', 'info', 'warning' or 'error'",
    ]


@pytest.mark.parametrize("servers", ["", "localhost", "localhost:", "a:1,", "a:1, b:2", "kafka://a:1", "a:b"])
def test_brokers_that_are_no_host_and_port_are_refused_with_the_form_they_take(servers: str) -> None:
    message = refusal({"bootstrap_servers": servers})
    assert message.startswith(f"EARSHOT_BOOTSTRAP_SERVERS (--bootstrap-servers) cannot be {servers!r}")
    assert "host:port" in message


def test_settings_do_not_change_once_read() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        LampSettings.read().brightness = 1


def test_the_table_for_the_docs_has_every_setting_with_its_default() -> None:
    table = settings_table(LampSettings)
    assert ("EARSHOT_LAMP_BRIGHTNESS", "--brightness", "5", "Brightness, from 0 to 10.") in table
    assert [row[0] for row in table] == [LampSettings.variable(name) for name in LampSettings.model_fields]


def test_the_table_for_the_docs_has_the_option_that_changes_what_is_done_by_default() -> None:
    class RoomSettings(LampSettings, env_prefix="EARSHOT_ROOM_"):
        heated: bool = Field(True, description="Heat the room.")
        locked: bool = Field(False, description="Lock the door.")

    options = {row[0]: row[1:3] for row in settings_table(RoomSettings)}
    assert options["EARSHOT_ROOM_HEATED"] == ("--no-heated", "True")
    assert options["EARSHOT_ROOM_LOCKED"] == ("--locked", "False")
