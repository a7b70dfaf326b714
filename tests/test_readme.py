"""README.md says what is true: its tables, its commands, its examples."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import jsonschema
import pytest
import typer.main

from earshot.cli import app
from earshot.labels import label_schema
from scripts.configuration import README, with_tables

TEXT = README.read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def commands() -> list[list[str]]:
    lines = [line.split("#")[0] for block in blocks("sh") for line in block.splitlines()]
    return [words[1:] for line in lines if (words := shlex.split(line)) and words[0] == "earshot"]


def test_the_configuration_tables_are_those_of_the_settings_classes() -> None:
    assert with_tables(TEXT) == TEXT, "run `python scripts/configuration.py`"


def test_the_example_label_keeps_to_the_schema() -> None:
    (example,) = blocks("json")
    jsonschema.validate(json.loads(example), label_schema())


@pytest.mark.parametrize("code", blocks("python"))
def test_the_example_consumers_are_python(code: str) -> None:
    compile(code, "README.md", "exec")


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_shown_is_one_that_the_command_line_takes(words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context("earshot", words)


def test_every_file_linked_to_is_there() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", TEXT)
    assert [link for link in links if not (README.parent / link).exists()] == []
