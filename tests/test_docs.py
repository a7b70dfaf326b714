"""docs/ and the starter model's card: what they link to is there, and every command that they show is taken.

The commands are those that bash would run, with variables, loops and continued lines as it reads them. None is run: in
their shell there are no programs, and what they are called with is written down.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from earshot.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "serving" / "starter_model" / "CARD.md"]
SHELL = """
PATH=/nowhere
command_not_found_handle() { :; }
python() { printf '%s\\0' python "$@" '\\n' >> "$WRITTEN"; }
earshot() { printf '%s\\0' earshot "$@" '\\n' >> "$WRITTEN"; }
cd() { :; }
"""
FENCED = re.compile(r"```(?:sh|bash)\n(.*?)```", re.DOTALL)
INDENTED = re.compile(r"(?:^|\n\n)((?: {4}[^\n]*\n)+)")


def shown(page: Path, scratch: Path) -> list[list[str]]:
    """The commands of a page, as words."""
    text = page.read_text(encoding="utf-8")
    written = scratch / f"{page.stem}.words"
    written.touch()
    script = SHELL + "\n".join(FENCED.findall(text) + INDENTED.findall(FENCED.sub("", text)))
    environment = {"WRITTEN": str(written)}
    subprocess.run(
        ["/bin/bash", "-c", script], cwd=scratch, env=environment, timeout=60, check=True, capture_output=True
    )
    return [each.split("\0")[:-1] for each in written.read_text().split("\\n\0")[:-1]]


def take(words: list[str]) -> None:
    """Have the program that a command is for read its words; raises what it raises where it does not take them."""
    match words:
        case ["earshot", *rest]:
            earshot(rest)
        case ["python", ("training/retrain.py" | "training/evaluate.py") as script, *rest]:
            earshot([Path(script).stem, *rest])
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
        case _:
            pytest.fail(f"nobody knows what this is: {words}")


def earshot(words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    context = command.context_class(command, **command.context_settings)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context("earshot", words, parent=context)


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_shown_is_one_that_is_taken(page: Path, tmp_path: Path) -> None:
    refused = []
    for words in shown(page, tmp_path):
        try:
            take(list(words))
        except (Exception, SystemExit) as error:
            refused.append(f"{' '.join(words)}: {error!r}")
    assert refused == []


def test_the_commands_of_the_pages_are_found(tmp_path: Path) -> None:
    found = {page.stem: len(shown(page, tmp_path)) for page in PAGES}
    assert found["training"] > 20
    assert found["accuracy"] >= 5
    assert found["speed"] >= 8
    assert found["CARD"] >= 4


def anchors(page: Path) -> set[str]:
    headings = [line.lstrip("#").strip() for line in page.read_text().splitlines() if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.stem)
def test_every_page_and_heading_linked_to_is_there(page: Path) -> None:
    missing = []
    for file, anchor in re.findall(r"\]\((?!http)([^)#\s]*)#?([^)\s]*)\)", page.read_text()):
        target = page.parent / file if file else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            missing.append(f"{file}#{anchor}")
    assert missing == []
