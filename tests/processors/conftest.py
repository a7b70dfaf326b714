"""A model server for the tests of this component."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.processors.model import ModelServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server
