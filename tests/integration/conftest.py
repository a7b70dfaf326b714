"""The whole pipeline but for its devices, once for the tests of this folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A real broker, the model server with the starter model, and a worker."""
    with Stack(tmp_path_factory.mktemp("stack")) as running:
        yield running
