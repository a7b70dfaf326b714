"""What several tests of this component need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client import REGISTRY

from processors.app import create_app
from processors.settings import ProcessorSettings
from tests.processors.model import ModelServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    import faust


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def app() -> Iterator[faust.App]:
    """The Faust application with default settings; its metrics, which a process has once, are gone after the test."""
    before = set(REGISTRY._collector_to_names)
    yield create_app(ProcessorSettings.model_validate({}))
    for collector in set(REGISTRY._collector_to_names) - before:
        REGISTRY.unregister(collector)
