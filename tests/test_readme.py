"""README.md says what is true: its tables, its commands, its examples."""

from __future__ import annotations

import json
import re

import jsonschema
import pytest

from earshot.labels import label_schema
from scripts.configuration import README, with_tables

TEXT = README.read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_the_configuration_tables_are_those_of_the_settings_classes() -> None:
    assert with_tables(TEXT) == TEXT, "run `python scripts/configuration.py`"


def test_the_example_label_keeps_to_the_schema() -> None:
    (example,) = blocks("json")
    jsonschema.validate(json.loads(example), label_schema())


@pytest.mark.parametrize("code", blocks("python"))
def test_the_example_consumers_are_python(code: str) -> None:
    compile(code, "README.md", "exec")
