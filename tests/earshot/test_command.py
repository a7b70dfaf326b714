"""Commands made from settings: what a user types, and what comes back."""

from __future__ import annotations

import json
import os
from pathlib import Path  # noqa: TC003 - pydantic needs it at run time
from typing import Literal

import pytest
import typer
from pydantic import Field
from typer.testing import CliRunner, Result

from earshot.command import APP, fail, logs_as_set, settings_command
from earshot.logs import get_log
from earshot.settings import Settings


class LampSettings(Settings, env_prefix="EARSHOT_LAMP_"):
    """One setting of each kind."""

    brightness: int = Field(5, ge=0, le=10, description="Brightness, from 0 to 10.")
    warmth: float = Field(0.5, ge=0, le=1, description="Warmth, from 0 to 1.")
    mode: Literal["steady", "blink"] = Field("steady", description="How it shines.")
    album: Path | None = Field(None, description="Folder of pictures.")
    dimmed: bool = Field(default=False, description="Dim it at night.")


pytestmark = pytest.mark.usefixtures("logs_as_before")


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("EARSHOT_"):
            monkeypatch.delenv(name)


def run(*words: str) -> Result:
    """The command on a terminal of 80 columns."""
    app = typer.Typer(add_completion=False, **APP)

    @app.command()
    @settings_command(LampSettings)
    def shine(settings: LampSettings) -> None:
        """Light the lamp.

        It stays lit.
        """
        if settings.brightness == 0:
            raise fail("a dark lamp is of no use; raise --brightness")
        get_log("earshot.lamp").info("lit", brightness=settings.brightness)
        typer.echo(settings.model_dump_json())

    return CliRunner().invoke(app, words, env={"COLUMNS": "80"})


def test_every_kind_of_option_reaches_the_settings() -> None:
    words = ["--brightness", "9", "--warmth", "0.25", "--mode", "blink", "--album", "/tmp/a", "--dimmed"]
    result = run(*words, "--log-level", "error")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "brightness": 9,
        "warmth": 0.25,
        "mode": "blink",
        "album": "/tmp/a",
        "dimmed": True,
        "log_level": "error",
        "log_json": False,
    }


def test_a_flag_that_a_variable_raises_can_be_lowered_by_its_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARSHOT_LAMP_DIMMED", "true")
    assert json.loads(run("--log-level", "error").stdout)["dimmed"] is True
    assert json.loads(run("--log-level", "error", "--no-dimmed").stdout)["dimmed"] is False


def test_help_has_each_options_kind_text_variable_and_default_whole() -> None:
    text = " ".join(run("--help").stdout.split())
    assert "Light the lamp. It stays lit." in text
    for option in (
        "--brightness INTEGER Brightness, from 0 to 10. (EARSHOT_LAMP_BRIGHTNESS, default 5)",
        "--warmth NUMBER Warmth, from 0 to 1. (EARSHOT_LAMP_WARMTH, default 0.5)",
        "--mode steady|blink How it shines. (EARSHOT_LAMP_MODE, default steady)",
        "--album PATH Folder of pictures. (EARSHOT_LAMP_ALBUM, default none)",
        "--dimmed / --no-dimmed Dim it at night. (EARSHOT_LAMP_DIMMED, default False)",
    ):
        assert option in text


def test_every_bad_value_is_told_at_once_on_stderr_with_status_2() -> None:
    result = run("--brightness", "11", "--mode", "strobe")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("earshot: EARSHOT_LAMP_BRIGHTNESS (--brightness) cannot be '11'")
    assert "EARSHOT_LAMP_MODE (--mode) cannot be 'strobe': Input should be 'steady' or 'blink'" in result.stderr


def test_a_failure_that_the_user_can_mend_is_one_message_with_status_2() -> None:
    result = run("--brightness", "0")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "earshot: a dark lamp is of no use; raise --brightness\n"


def test_logs_take_the_form_that_was_asked_for_and_leave_stdout_alone() -> None:
    result = run("--log-json")
    assert json.loads(result.stderr)["event"] == "lit"
    assert json.loads(result.stdout)["log_json"] is True


def test_a_command_without_settings_logs_as_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EARSHOT_LOG_JSON", "true")
    logs_as_set()
    get_log("earshot.lamp").info("lit")
    assert json.loads(capsys.readouterr().err)["event"] == "lit"
    monkeypatch.setenv("EARSHOT_LOG_LEVEL", "loud")
    with pytest.raises(typer.Exit):
        logs_as_set()
    assert "EARSHOT_LOG_LEVEL" in capsys.readouterr().err
