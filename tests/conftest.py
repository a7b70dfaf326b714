"""What tests of every component share: a real Kafka broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from earshot.admin import create_topics
from local.broker import Broker

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """A real broker with the project's topics, one for the whole run; neither process nor file is left of it."""
    with Broker() as running:
        create_topics(running.bootstrap_servers)
        yield running
