"""Every command of the project's images parses there: with what the image installs, and nothing else.

No container engine runs here. Instead a Python process that can import only what `uv.lock` gives to an image runs the
image's own command with `--help`, and its settings are read from the variables of the compose file.
"""

from __future__ import annotations

import importlib.metadata
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

from earshot.admin import TopicsSettings
from local.settings import ReplaySettings
from processors.settings import ProcessorSettings
from producers.settings import AgentSettings
from tests.deploy.compose import ROOT, command_line, instructions, own_services, without_earshot_variables

if TYPE_CHECKING:
    from earshot.settings import KafkaSettings

TARGETS = ("agent", "processor", "serving", "training")
SETTINGS: dict[str, type[KafkaSettings]] = {
    "topics": TopicsSettings,
    "worker": ProcessorSettings,
    "agent": AgentSettings,
    "replay": ReplaySettings,
}

EXPORT = ["export", "--quiet", "--offline", "--no-emit-project", "--no-hashes", "--no-annotate"]

IMPORTS_ONLY = """\
import runpy, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {refused}:
            raise ModuleNotFoundError(f"{{name}} is not in the image", name=name)

sys.meta_path.insert(0, Refuse())
sys.argv = {words}
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""


def sync_options(target: str) -> list[str]:
    """What decides, of the last `uv sync` in an image's build, which packages it installs."""
    *_, command = [run for run in instructions("RUN", f"build-{target}") if run.startswith("uv sync")]
    return [word for word in shlex.split(command)[2:] if word != "--no-editable"]


@cache
def packages(target: str) -> frozenset[str]:
    """Distributions that the image installs, as uv itself resolves its options."""
    answer = subprocess.run(
        [ROOT / ".venv/bin/uv", *EXPORT, *sync_options(target)],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=True,
    )
    wanted = [Requirement(line) for line in answer.stdout.splitlines() if not line.startswith("#")]
    return frozenset(normal(one.name) for one in wanted if one.marker is None or one.marker.evaluate())


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def not_in(target: str) -> set[str]:
    """Top-level modules of this environment that the image does not have."""
    here = importlib.metadata.packages_distributions()
    present = packages(target) | {"earshot"}
    return {module for module, owners in here.items() if not present & {normal(owner) for owner in owners}}


def run_as_in_image(target: str, words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run `python -m module ...` or `earshot ...` with the modules of an image only."""
    if words[0] == "earshot":
        scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
        assert scripts == {"earshot": "earshot.cli:main"}
        module, arguments = "earshot.cli", words[1:]
    else:
        assert words[:2] == ["python", "-m"]
        module, arguments = words[2], words[3:]
    code = IMPORTS_ONLY.format(refused=sorted(not_in(target)), words=[words[0], *arguments], module=module)
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=without_earshot_variables(),
        text=True,
        capture_output=True,
        check=False,
        timeout=120,
    )


def commands() -> list[tuple[str, str]]:
    """Image and command line of each command: the images' own and the compose file's."""
    own = {(target, shlex.join(command_line(target))) for target in TARGETS}
    used = [(service["build"]["target"], service.get("command")) for service in own_services().values()]
    return sorted(own | {(target, shlex.join(command_line(target, command))) for target, command in used})


@pytest.mark.parametrize(("target", "line"), commands())
def test_every_command_parses_with_what_its_image_holds(target: str, line: str) -> None:
    answer = run_as_in_image(target, [*shlex.split(line), "--help"])
    assert answer.returncode == 0, answer.stderr
    options = [word for word in shlex.split(line) if word.startswith("--")]
    assert [option for option in options if option not in answer.stdout] == []


def test_an_option_that_does_not_exist_is_noticed() -> None:
    assert run_as_in_image("processor", ["earshot", "topics", "--partition-count", "4"]).returncode == 2


def test_a_module_that_the_image_lacks_is_noticed() -> None:
    answer = run_as_in_image("agent", ["python", "-m", "serving.starter", "--into", "/nowhere/at/all"])
    assert answer.returncode != 0
    assert "tensorflow is not installed" in answer.stderr


def test_each_image_installs_what_it_needs_and_no_more() -> None:
    assert {"pyaudio", "webrtcvad-wheels"} <= packages("agent")
    assert not {"faust-streaming", "tensorflow-cpu", "tensorflow", "grpcio", "pytest"} & packages("agent")
    assert "faust-streaming" in packages("processor")
    assert not {"tensorflow-cpu", "tensorflow", "keras", "pyaudio", "pytest"} & packages("processor")
    for target in ("serving", "training"):
        assert "tensorflow-cpu" in packages(target)
        assert not {"tensorflow", "faust-streaming", "pyaudio", "pytest"} & packages(target)


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_the_variables_in_the_compose_file_are_settings_and_their_values_are_good(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in own_services()[name]["environment"].items():
        monkeypatch.setenv(variable, value)
        assert variable in {SETTINGS[name].variable(field) for field in SETTINGS[name].model_fields}
    assert SETTINGS[name].read().bootstrap_servers == "kafka:19092"


def test_every_service_with_settings_has_them_tested() -> None:
    told = {name for name, service in own_services().items() if "EARSHOT_" in str(service.get("environment"))}
    assert told == set(SETTINGS)


def test_variables_that_the_images_set_are_settings() -> None:
    known = {s.variable(field) for s in (ProcessorSettings, AgentSettings) for field in s.model_fields}
    from serving.settings import ServerSettings

    known |= {ServerSettings.variable(field) for field in ServerSettings.model_fields}
    assert set(re.findall(r"\bEARSHOT_\w+", "\n".join(instructions("ENV")))) <= known


def test_every_file_that_the_images_copy_is_in_the_build_context() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    assert [path for path in kept if not (ROOT / path).exists()] == []
    about = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(about["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) <= kept
    assert all({path, path.partition("/")[0]} & kept for path in about["project"]["license-files"])
    for copy in instructions("COPY"):
        if "--from=" not in copy:
            *sources, _ = [word for word in copy.split() if not word.startswith("--")]
            assert [source for source in sources if source != "." and source not in kept] == []


def test_uv_in_the_images_is_the_uv_that_made_the_environment() -> None:
    (version,) = re.findall(r"UV_VERSION=(\S+)", (ROOT / "scripts" / "setup.sh").read_text())
    assert any(run.endswith(f"uv=={version}") for run in instructions("RUN", "builder"))
