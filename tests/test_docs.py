"""README, docs/ and the starter model's card: what they link to is there, and every command that they show is taken.

The commands are those that bash would run, with variables, loops and continued lines as it reads them. None is run: in
their shell no program is found, none that has a path is begun, and what they are called with is written down.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer.main

from earshot.cli import app
from scripts.configuration import COMPONENTS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "serving" / "starter_model" / "CARD.md"]
SHELL = """
set -u -f
PATH=/nowhere
written() { printf '%s\\0' "$@" $'\\1' >> "$WRITTEN"; }
command_not_found_handle() { written "$@"; }
cd() { :; }
begun() {
    local word text=${1//\\"*([^\\"])\\"/_}
    for word in ${text//\\'*([^\\'])\\'/_}; do
        case $word in *=*) ;; */*) return 1 ;; *) return 0 ;; esac
    done
}
shopt -s extglob extdebug  # what the trap says no to is left out
trap 'begun "$BASH_COMMAND"' DEBUG
"""
LANGUAGES = {"", "bash", "csv", "dosini", "ini", "json", "mermaid", "promql", "proto", "python", "sh", "text", "yaml"}
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?<=\n\n)((?: {4}[^\n]*\n)+)")
OTHERS = {
    *(
        "apt-get",
        "awk",
        "curl",
        "docker",
        "git",
        "journalctl",
        "jq",
        "kcat",
        "kubectl",
        "make",
        "mkdir",
        "pip",
        "pytest",
        "python3",
    ),
    *("sed", "sudo", "systemctl", "tar", "tensorflow_model_server"),
}
"""Programs that are not of this project."""
SETTINGS = {command: settings for title, settings in COMPONENTS for command in re.findall(r"`earshot (\w+)`", title)}


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("EARSHOT_")]:
        monkeypatch.delenv(name)


def shown(page: Path, scratch: Path) -> list[list[str]]:
    """The commands of a page, as words."""
    text = page.read_text(encoding="utf-8")
    blocks = [block for language, block in FENCED.findall(text) if language in {"sh", "bash"}]
    written = scratch / "words"
    written.touch()
    bash = shutil.which("bash")
    assert bash
    done = subprocess.run(
        [bash, "-c", "\n".join([SHELL, *blocks, *INDENTED.findall(FENCED.sub("", text)), ":"])],
        cwd=scratch,
        env={"WRITTEN": str(written), "HOME": str(scratch), "PWD": str(scratch)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [each.split("\0")[:-1] for each in written.read_text().split("\1\0")[:-1]]


def take(words: list[str]) -> None:
    """Have the program that a command is for read its words; raises what it raises where it does not take them."""
    match words:
        case ["earshot", *rest]:
            earshot(rest)
        case ["python", ("training/retrain.py" | "training/evaluate.py") as script, *rest]:
            earshot([Path(script).stem, *rest])
        case ["docker", "compose", *rest] if "run" in rest:
            compose(rest)
        case ["python", "-m", "serving.starter", *rest]:
            starter = typer.Typer()
            starter.command()(importlib.import_module("serving.starter").main)
            typer.main.get_command(starter).make_context("starter", rest)
        case ["python", "-m", module, *rest] if module.startswith("training."):
            typer.main.get_command(importlib.import_module(module).app).make_context(module, rest)
        case ["python", "-m", module, *rest] if module.startswith("benchmarks."):
            benchmark(module, rest)
        case ["python", "-m", module, *_] if importlib.util.find_spec(module):
            pass
        case ["python", "-"]:  # a program follows
            pass
        case [program, *_] if program in OTHERS or program.startswith("kafka-"):
            pass
        case _:
            raise AssertionError("nobody knows this program")


def earshot(words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    context = command.context_class(command, **command.context_settings)
    while hasattr(command, "commands"):
        name = words.pop(0)
        command = command.commands[name]
    given = command.make_context("earshot", words, parent=context).params
    if name in SETTINGS:
        SETTINGS[name].read(given)


def compose(words: list[str]) -> None:
    """`docker compose run` of an image of Earshot's."""
    at = next(at for at, word in enumerate(words) if word in {"retrain", "starter"} and words[at - 1] != "--profile")
    match words[at + 1 :]:
        case ["earshot", *rest]:
            earshot(rest)
        case rest:
            earshot(rest if "--entrypoint" in words else ["retrain", *rest])


class Read(BaseException):
    """A benchmark has read its words, and is not to begin."""


def benchmark(module: str, words: list[str]) -> None:
    known = argparse.ArgumentParser.parse_known_args

    def read_all(self: argparse.ArgumentParser) -> Any:
        _, more = known(self)
        raise Read if not more else AssertionError(f"no options: {more}")

    def read_some(self: argparse.ArgumentParser) -> Any:
        earshot(["serve", *known(self)[1]])  # the others are a server's
        raise Read

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [module, *words])
        patch.setattr(argparse.ArgumentParser, "parse_args", read_all)
        patch.setattr(argparse.ArgumentParser, "parse_known_args", read_some)
        with pytest.raises(Read):
            importlib.import_module(module).main()


def refused(commands: list[list[str]]) -> Iterator[str]:
    for words in commands:
        try:
            take(list(words))
        except (Exception, SystemExit) as error:
            yield f"{' '.join(words)}: {error!r}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_shown_is_one_that_is_taken(page: Path, tmp_path: Path) -> None:
    assert {language for language, _ in FENCED.findall(page.read_text(encoding="utf-8"))} <= LANGUAGES
    assert list(refused(shown(page, tmp_path))) == []


@pytest.mark.parametrize(
    "line",
    [
        "earshot serve --no-such-option",
        "earshot serve --precision int7",
        "earshott serve",
        "python -m benchmarks.engines --no-such-option 1",
        "python -m benchmarks.serving --no-such-option 1",
        "python training/retrain.py --data UrbanSound8K --method nonsense",
        "docker compose --profile retrain run --rm retrain --no-such-option",
    ],
)
def test_a_command_that_is_wrong_is_found(line: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n```sh\nearshot labels\n```\n\nOr:\n\n    {line}\n\n    earshot labels\n")
    assert len(shown(page, tmp_path)) == 3
    (tmp_path / "words").unlink()
    assert len(list(refused(shown(page, tmp_path)))) == 1


def test_no_program_is_begun(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```sh\nV=/x /bin/touch begun\n/bin/touch begun\ntouch begun\n```\n")
    assert shown(page, tmp_path) == [["touch", "begun"]]
    assert not (tmp_path / "begun").exists()


def anchors(page: Path) -> set[str]:
    lines = FENCED.sub("", page.read_text(encoding="utf-8")).splitlines()
    headings = [line.lstrip("#").strip() for line in lines if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_page_and_heading_linked_to_is_there(page: Path) -> None:
    missing = []
    for file, anchor in re.findall(r"\]\((?!http)([^)#\s]*)#?([^)\s]*)\)", page.read_text(encoding="utf-8")):
        target = page.parent / file if file else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            missing.append(f"{file}#{anchor}")
    assert missing == []
