"""What tests of the command line share."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def logs_as_before() -> Iterator[None]:
    """A command that runs in this process configures its logs; the tests after it have theirs back."""
    loggers = [logging.getLogger(), *map(logging.getLogger, sorted(logging.root.manager.loggerDict))]
    levels = [logger.level for logger in loggers]
    handlers = logging.root.handlers[:]
    yield
    for logger in map(logging.getLogger, sorted(logging.root.manager.loggerDict)):
        logger.setLevel(logging.NOTSET)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    logging.root.handlers[:] = handlers
    structlog.reset_defaults()
