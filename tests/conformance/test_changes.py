"""Versions that appear and vanish while clients ask, and what the metrics count of it all."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tensorflow_serving.apis import get_model_status_pb2

from tests.conformance.conftest import refused
from tests.conformance.models import write_half_plus
from tests.conformance.requests import INVALID, floats, predict, spec
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conformance.conftest import Server

CHANGING = spec("changing")


def states(server: Server) -> dict[int, str]:
    request = get_model_status_pb2.GetModelStatusRequest(model_spec=CHANGING)
    answer = server.model_service.GetModelStatus(request, timeout=30)
    names = get_model_status_pb2.ModelVersionStatus.State
    return {each.version: names.Name(each.state) for each in answer.model_version_status}


def served_version(server: Server) -> int:
    """The version that answers, which has to be right whichever it is."""
    answer = predict(server, CHANGING, x=floats(2))
    version = int(answer.model_spec.version.value)
    np.testing.assert_allclose(answer.outputs["y"].float_val, [1 + version])
    return version


@pytest.fixture
def changing(server: Server) -> Iterator[Path]:
    """The folder of versions, in the end with version 1 alone, and that served."""
    folder = server.models / "changing"
    yield folder
    for other in folder.iterdir():
        if other.name != "1":
            shutil.rmtree(other)
    wait_for(lambda: served_version(server) == 1, 60, "version 1 to be served again")


def publish(folder: Path, version: int) -> None:
    """A whole version, by a rename."""
    written = folder / f"written.{version}"
    write_half_plus(written, float(version))
    written.rename(folder / str(version))


def test_a_version_that_appears_takes_over_and_one_that_vanishes_gives_back(server: Server, changing: Path) -> None:
    assert served_version(server) == 1
    publish(changing, 2)
    wait_for(lambda: served_version(server) == 2, 60, "version 2 to be served")
    wait_for(lambda: states(server)[1] == "END", 60, "version 1 to be unloaded")
    assert states(server)[2] == "AVAILABLE"
    shutil.rmtree(changing / "2")
    wait_for(lambda: served_version(server) == 1, 60, "version 1 to be served again")
    wait_for(lambda: states(server)[2] == "END", 60, "version 2 to be unloaded")


def test_a_broken_version_takes_nothing_away(server: Server, changing: Path) -> None:
    """Nor does a folder that is not named by a number."""
    write_half_plus(changing / "next", 9.0)
    (changing / "4").mkdir()
    (changing / "4" / "saved_model.pb").write_bytes(b"no model at all")
    wait_for(lambda: 4 in states(server), 60, "version 4 to be tried")
    assert states(server)[4] != "AVAILABLE"
    assert states(server)[1] == "AVAILABLE"
    assert served_version(server) == 1
    publish(changing, 5)
    wait_for(lambda: served_version(server) == 5, 60, "version 5 to be served")


def test_requests_are_counted_by_model_and_status_over_grpc_and_rest(server: Server) -> None:
    before = server.metrics()
    for _ in range(3):
        predict(server, spec(), x=floats(2))
    assert server.http("/v1/models/half:predict", {"instances": [2.0]})[0] == 200
    assert refused(lambda: predict(server, spec(), y=floats(2)))[0] is INVALID

    def more(*sample: str) -> float:
        return server.metrics()[sample] - before.get(sample, 0)

    assert more(":tensorflow:serving:request_count", "half", "OK") == 4
    assert more(":tensorflow:serving:request_count", "half", "INVALID_ARGUMENT") == 1
    assert more(":tensorflow:serving:request_latency_count", "Predict", "GRPC", "half") >= 3
    assert more(":tensorflow:serving:request_latency_count", "predict", "REST", "half") >= 1
