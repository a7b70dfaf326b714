"""What tests of every component share: a real Kafka broker."""

from __future__ import annotations

import gc
import os
import signal
from typing import TYPE_CHECKING

import pytest

from earshot.admin import create_topics
from local.broker import Broker

if TYPE_CHECKING:
    from collections.abc import Iterator

# A shell ignores SIGINT in background jobs, and every process that the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs services runs in one process, which starts them once; beside it the other tests, file by file."""
    for item in items:
        group = "services" if item.get_closest_marker("integration") else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))


def pytest_collection_finish() -> None:
    """What is imported by now stays: TensorFlow's million objects need not be gone through at each collection."""
    gc.freeze()


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """What a command sets for its own process is not to reach the processes of later tests.

    One by one: threads of TensorFlow's and gRPC's may read it at any moment.
    """
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    for name, value in before.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """A real broker with the project's topics, one for the whole run; neither process nor file is left of it."""
    with Broker() as running:
        create_topics(running.bootstrap_servers)
        yield running
