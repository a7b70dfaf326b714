"""The command line as a user meets it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from earshot.admin import TopicsSettings
from earshot.cli import app
from earshot.tail import TailSettings
from local.settings import DemoSettings, ReplaySettings
from processors.settings import ProcessorSettings
from producers.settings import AgentSettings
from serving.settings import ServerSettings
from tests.processes import ROOT
from training.settings import EvaluateSettings, RetrainSettings

if TYPE_CHECKING:
    from earshot.settings import Settings
    from local.broker import Broker

SETTINGS: dict[str, type[Settings]] = {
    "agent": AgentSettings,
    "processor": ProcessorSettings,
    "serve": ServerSettings,
    "retrain": RetrainSettings,
    "evaluate": EvaluateSettings,
    "topics": TopicsSettings,
    "labels": TailSettings,
    "replay": ReplaySettings,
    "demo": DemoSettings,
}
OTHERS = ["devices", "local up", "local down", "local status", "models list", "models rollback", "models promote"]


def shown(command: str) -> str:
    result = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    return result.stdout


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_help_lists_every_command_with_a_whole_sentence() -> None:
    lines = [line for line in shown("").partition("Commands:")[2].splitlines() if line.strip()]
    assert [line.split()[0] for line in lines] == ["agent", "devices", *list(SETTINGS)[1:], "local", "models"]
    assert [line for line in lines if not line.endswith(".") or line.endswith("...")] == []


@pytest.mark.parametrize("command", [*SETTINGS, *OTHERS])
def test_a_commands_help_says_more_than_its_name(command: str) -> None:
    description = shown(command).partition("Usage: ")[2].partition("Options:")[0]
    assert description.count(".") >= 2 or command == "local down"


@pytest.mark.parametrize("command", SETTINGS)
def test_a_commands_help_has_every_option_and_variable_whole_in_80_columns(command: str) -> None:
    text = shown(command)
    settings = SETTINGS[command]
    for name in settings.model_fields:
        assert f"  {settings.option(name)} " in text
        assert f"({settings.variable(name)}," in text


@pytest.mark.parametrize(
    "component",
    [["-m", name] for name in ("producers", "processors", "serving", "local")]
    + [["training/retrain.py"], ["training/evaluate.py"]],
)
def test_each_component_is_a_command_by_itself(component: list[str]) -> None:
    done = python(*component, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage: " in done.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("agnt", "No such command 'agnt'. Did you mean 'agent'?"),
        ("agent --gates vad", "No such option: --gates"),
        ("agent --gate", "Option '--gate' requires an argument"),
        ("agent now", "Got unexpected extra argument"),
        ("agent --gate loud", "earshot: EARSHOT_AGENT_GATE (--gate) cannot be 'loud'"),
        ("topics --partitions 0", "earshot: EARSHOT_TOPICS_PARTITIONS (--partitions) cannot be '0'"),
        ("replay --input /nowhere", "earshot: /nowhere is not a folder"),
    ],
)
def test_what_is_wrong_is_told_on_stderr_without_a_traceback_and_with_status_2(words: str, told: str) -> None:
    done = python("-m", "earshot.cli", *words.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.integration
@pytest.mark.usefixtures("logs_as_before")
def test_topics_that_exist_are_told_with_the_partitions_that_they_keep(broker: Broker) -> None:
    options = ["--bootstrap-servers", broker.bootstrap_servers, "--partitions"]
    again = CliRunner().invoke(app, ["topics", *options, "4"])
    assert (again.exit_code, again.stdout) == (0, "all topics exist already\n")
    more = CliRunner().invoke(app, ["topics", *options, "8"])
    assert more.exit_code == 0
    assert "labels has 4 partitions and keeps them, not the 8 asked for" in more.stdout
    copies = CliRunner().invoke(app, ["topics", *options, "4", "--replication", "3"])
    assert copies.exit_code == 0
    assert "labels has 1 copies and keeps them, not the 3 asked for" in copies.stdout
    refused = CliRunner().invoke(app, ["topics", *options, "9999"])
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"earshot: the broker at {broker.bootstrap_servers} refused")


@pytest.mark.parametrize(
    ("module", "words", "package", "extra"),
    [
        ("earshot.cli", ["devices"], "pyaudio", "agent"),
        ("earshot.cli", ["demo"], "soundfile", "demo"),
        ("processors", [], "aiokafka", "processor"),
        ("serving", ["--port", "0", "--rest-api-port", "0"], "grpc", "serving"),
        ("serving.starter", ["--into", "/nowhere"], "tensorflow", "serving"),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_what_installs_it(
    module: str, words: list[str], package: str, extra: str
) -> None:
    code = f"""
import runpy, sys
sys.modules[{package!r}] = None
sys.argv[1:] = {words!r}
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""
    result = python("-c", code)
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith(f"earshot: {package} is not installed; ")
    assert f"'.[{extra}]'" in result.stderr


@pytest.mark.parametrize(("word", "shown"), [("true", "True"), ("false", "False")])
def test_a_switch_may_be_set_as_tensorflows_programs_are(word: str, shown: str) -> None:
    code = (
        "import sys; from unittest import mock; from earshot import cli\n"
        "with mock.patch('serving.run.run', lambda settings: print(settings.enable_batching)):\n"
        f"    cli.main(['serve', '--enable_batching={word}', '--model_name=true'])"
    )
    assert python("-c", code).stdout.split() == [shown]
