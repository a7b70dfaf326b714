from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tensorflow as tf

from earshot.tfserving import messages
from serving.engines.tensorflow_engine import TensorFlowEngine
from serving.failures import BrokenModel, CannotLoadNow
from serving.layout import WARMUP_FILE
from serving.modelserver.errors import ServingError, exhausted, unavailable
from serving.modelserver.loading import warm_up
from serving.tfrecord import write_records
from serving.warmup import MOST_REQUESTS, read_warmup, write_warmup
from tests.conformance.models import write_half_plus
from tests.conformance.requests import examples

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

X = tf.make_tensor_proto(np.array([2], np.float32))
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
    warm_up(Recorded(version), read_warmup(version))
    assert {signature for signature, _ in ran} == {"serving_default", "pcm"}


def test_a_versions_own_requests_are_run_and_nothing_else(version: Path) -> None:
    write_warmup(version, {"pcm": {"pcm": PCM}})
    warm_up(Recorded(version), read_warmup(version))
    assert [signature for signature, _ in ran] == ["pcm"]
    np.testing.assert_array_equal(ran[0][1]["pcm"], PCM)


def test_each_request_is_run_as_often_as_asked_for_before_the_next_one(version: Path) -> None:
    warm_up(Recorded(version), read_warmup(version), 3)
    asked = [log.predict_log.request.model_spec.signature_name for log in read_warmup(version)]
    assert [signature for signature, _ in ran] == [signature for signature in asked for _ in range(3)]


def test_without_requests_of_its_own_nothing_of_a_version_is_run(tmp_path: Path) -> None:
    write_half_plus(tmp_path / "1", 1.0)
    ran.clear()
    warm_up(Recorded(tmp_path / "1"), read_warmup(tmp_path / "1"))
    assert ran == []


def test_a_request_for_a_signature_that_is_not_there_breaks_the_version(version: Path) -> None:
    write_warmup(version, {"mp3": {"mp3": PCM}})
    with pytest.raises(BrokenModel, match='"mp3" not found'):
        warm_up(Recorded(version), read_warmup(version))


@pytest.mark.parametrize("refusal", [exhausted, unavailable])
def test_a_request_that_memory_is_short_for_does_not_break_the_version(
    version: Path, monkeypatch: pytest.MonkeyPatch, refusal: Callable[[str], ServingError]
) -> None:
    engine = Recorded(version)

    def short(*_: Any) -> None:
        raise refusal("no memory at present")

    monkeypatch.setattr(engine, "run", short)
    with pytest.raises(CannotLoadNow, match="no memory at present"):
        warm_up(engine, read_warmup(version))


def logs_of_each_kind(signature: str = "regress") -> list[Any]:
    predicted, classified, regressed, several = (messages.PredictionLog() for _ in range(4))
    predicted.predict_log.request.inputs["x"].CopyFrom(messages.TensorProto.FromString(X.SerializeToString()))
    for log, name in ((classified.classify_log, "classify"), (regressed.regress_log, signature)):
        log.request.model_spec.signature_name = name
        log.request.input.ParseFromString(examples(2).SerializeToString())
    asked = several.multi_inference_log.request
    asked.input.ParseFromString(examples(2).SerializeToString())
    for name in ("classify", "regress2"):
        method = f"tensorflow/serving/{name.removesuffix('2')}"
        asked.tasks.add(method_name=method).model_spec.signature_name = name
    return [predicted, classified, regressed, several]


def test_requests_of_each_kind_warm_up(tmp_path: Path) -> None:
    write_half_plus(tmp_path / "1", 1.0)
    (tmp_path / "1" / "assets.extra").mkdir()
    records = [log.SerializeToString() for log in logs_of_each_kind()]
    write_records(tmp_path / "1" / "assets.extra" / "tf_serving_warmup_requests", records)
    ran.clear()
    warm_up(Recorded(tmp_path / "1"), read_warmup(tmp_path / "1"))
    assert [signature for signature, _ in ran] == ["serving_default", "classify", "regress", "classify", "regress2"]


def test_a_request_for_examples_of_another_signature_breaks_the_version(tmp_path: Path) -> None:
    write_half_plus(tmp_path / "1", 1.0)
    (tmp_path / "1" / "assets.extra").mkdir()
    records = [log.SerializeToString() for log in logs_of_each_kind("classify")]
    write_records(tmp_path / "1" / "assets.extra" / "tf_serving_warmup_requests", records)
    with pytest.raises(BrokenModel, match="Expected one output Tensor"):
        warm_up(Recorded(tmp_path / "1"), read_warmup(tmp_path / "1"))


def test_so_many_requests_that_a_start_would_take_minutes_are_refused(version: Path) -> None:
    log = read_warmup(version)[0]
    write_records(version / WARMUP_FILE, [log.SerializeToString()] * (MOST_REQUESTS + 1))
    with pytest.raises(BrokenModel, match="1001 warm-up requests, and 1000 at most"):
        read_warmup(version)
