from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from serving.engines.tensorflow_engine import TensorFlowEngine
from serving.failures import BrokenModel
from serving.modelserver.loading import warm_up
from serving.warmup import read_warmup, write_warmup

if TYPE_CHECKING:
    from pathlib import Path

PCM = np.full((2, 48_000), 7, np.int16)


class Recorded(TensorFlowEngine):
    """The real engine, and what it was asked to run."""

    def run(self, signature: str, inputs: Any, outputs: Any) -> Any:
        ran.append((signature, {name: array.copy() for name, array in inputs.items()}))
        return super().run(signature, inputs, outputs)


ran: list[tuple[str, dict[str, Any]]] = []


@pytest.fixture
def version(base_path: Path) -> Path:
    ran.clear()
    return base_path / "1"


def test_an_exported_version_warms_both_signatures_up(version: Path) -> None:
    asked = {log.predict_log.request.model_spec.signature_name for log in read_warmup(version)}
    assert asked == {"serving_default", "pcm"}
    warm_up(Recorded(version), version)
    assert {signature for signature, _ in ran} == {"serving_default", "pcm"}


def test_a_versions_own_requests_are_run_and_nothing_else(version: Path) -> None:
    write_warmup(version, {"pcm": {"pcm": PCM}})
    warm_up(Recorded(version), version)
    assert [signature for signature, _ in ran] == ["pcm"]
    np.testing.assert_array_equal(ran[0][1]["pcm"], PCM)


def test_a_request_for_a_signature_that_is_not_there_breaks_the_version(version: Path) -> None:
    write_warmup(version, {"mp3": {"mp3": PCM}})
    with pytest.raises(BrokenModel, match='"mp3" not found'):
        warm_up(Recorded(version), version)
