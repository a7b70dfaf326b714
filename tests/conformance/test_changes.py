"""Versions that appear and vanish while clients ask, and what the metrics count of it all."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tensorflow_serving.apis import get_model_status_pb2

from tests.conformance.conftest import refused
from tests.conformance.models import write_half_plus
from tests.conformance.requests import INVALID, floats, predict, spec, status
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conformance.conftest import Server

CHANGING = spec("changing")


def statuses(server: Server) -> dict[int, Any]:
    return {each.version: each for each in status(server, CHANGING).model_version_status}


def states(server: Server) -> dict[int, str]:
    names = get_model_status_pb2.ModelVersionStatus.State
    return {version: names.Name(each.state) for version, each in statuses(server).items()}


def served_version(server: Server) -> int:
    """The version that answers, which has to be right whichever it is."""
    answer = predict(server, CHANGING, x=floats(2))
    version = int(answer.model_spec.version.value)
    np.testing.assert_allclose(answer.outputs["y"].float_val, [1 + version])
    return version


def withdraw(folder: Path) -> None:
    """Leave version 1 alone; what goes last is what is served, and none is seen by halves."""
    others = [other for other in folder.iterdir() if other.name != "1"]
    for other in sorted(others, key=lambda other: int(other.name) if other.name.isdecimal() else 0):
        hidden = other.rename(folder / f"withdrawn.{other.name}")
        shutil.rmtree(hidden)


def alone(server: Server, folder: Path) -> None:
    withdraw(folder)
    wait_for(lambda: served_version(server) == 1, 60, "version 1 to be served")


@pytest.fixture
def changing(server: Server) -> Iterator[Path]:
    """The folder of versions: before and after a test with version 1 alone, and that served."""
    folder = server.models / "changing"
    alone(server, folder)
    yield folder
    alone(server, folder)


def publish(folder: Path, version: int) -> None:
    """A whole version, by a rename."""
    written = folder / f"written.{version}"
    write_half_plus(written, float(version))
    written.rename(folder / str(version))


def test_a_version_that_appears_takes_over_and_one_that_vanishes_gives_back(server: Server, changing: Path) -> None:
    publish(changing, 2)
    wait_for(lambda: served_version(server) == 2, 60, "version 2 to be served")
    wait_for(lambda: states(server)[1] == "END", 60, "version 1 to be unloaded")
    assert states(server)[2] == "AVAILABLE"
    withdraw(changing)
    wait_for(lambda: served_version(server) == 1, 60, "version 1 to be served again")
    wait_for(lambda: states(server)[2] == "END", 60, "version 2 to be unloaded")


def test_a_broken_version_takes_nothing_away(server: Server, changing: Path) -> None:
    """Nor does a folder that is not named by a number."""
    broken = max(states(server)) + 1  # of a server that is tested again an earlier one has ended already
    write_half_plus(changing / "next", 9.0)
    (changing / str(broken)).mkdir()
    (changing / str(broken) / "saved_model.pb").write_bytes(b"no model at all")
    wait_for(lambda: states(server).get(broken) == "END", 60, "the broken version to be given up")
    assert statuses(server)[broken].status.error_code
    assert states(server)[1] == "AVAILABLE"
    assert served_version(server) == 1
    publish(changing, broken + 1)
    wait_for(lambda: served_version(server) == broken + 1, 60, "the version after it to be served")


def test_requests_are_counted_by_model_and_status_over_grpc_and_rest(server: Server) -> None:
    before = server.metrics()
    for _ in range(3):
        predict(server, spec(), x=floats(2))
    assert server.http("/v1/models/half:predict", {"instances": [2.0]})[0] == 200
    assert [server.http(f"/v1/models/half{path}")[0] for path in ("", "/metadata", "/versions/77")] == [200, 200, 404]
    assert refused(lambda: predict(server, spec(), y=floats(2)))[0] is INVALID

    counts, latencies = ":tensorflow:serving:request_count", ":tensorflow:serving:request_latency_count"
    expected = {
        (counts, "half", "OK"): 6,
        (counts, "half", "INVALID_ARGUMENT"): 1,
        (counts, "half", "NOT_FOUND"): 1,
        (latencies, "", "REST", "half"): 2,
        (latencies, "predict", "REST", "half"): 1,
    }

    def more() -> dict[tuple[str, ...], float]:
        now = server.metrics()
        return {sample: now.get(sample, 0) - before.get(sample, 0) for sample in expected}

    wait_for(lambda: more() == expected, 10, f"{expected}")  # a request is counted once it is answered
    sample = (latencies, "Predict", "GRPC", "half")
    assert server.metrics()[sample] - before.get(sample, 0) >= 3
