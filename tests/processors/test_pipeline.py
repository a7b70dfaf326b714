from __future__ import annotations

import numpy as np
import pytest

from earshot.segments import InvalidSegment
from earshot.spectrogram import DEFAULT_PARAMS, SpectrogramParams, spectrogram
from processors.labeller import IMAGE_SHAPE
from processors.pipeline import Failure, Incoming, Prepared, bury, label, prepare
from processors.predictor import Prediction
from tests.processors.segments import segment


def incoming(**changes: object) -> Incoming:
    record = segment().to_record()
    fields = {"key": record.key, "value": record.value, "headers": record.headers}
    return Incoming(**{**fields, **changes}, topic="segments", partition=2, offset=41)  # type: ignore[arg-type]


def test_a_segment_is_prepared_with_the_spectrogram_of_its_sound() -> None:
    expected = segment()
    prepared = prepare(incoming())
    assert isinstance(prepared, Prepared)
    assert prepared.image.shape == IMAGE_SHAPE
    assert np.array_equal(prepared.image, spectrogram(expected.pcm, DEFAULT_PARAMS))
    assert prepared.segment.device_id == "porch"


@pytest.mark.parametrize(
    "changes",
    [{"value": b"\0" * 95_998}, {"value": None}, {"headers": []}, {"key": None}, {"headers": [("ce_id", b"\xff")]}],
    ids=["short", "no value", "no headers", "no key", "garbage header"],
)
def test_a_record_outside_the_contract_fails_at_decode_and_its_dead_letter_keeps_it_whole(
    changes: dict[str, object],
) -> None:
    record = incoming(**changes)
    failure = prepare(record)
    assert isinstance(failure, Failure)
    assert failure.stage == "decode"
    assert isinstance(failure.error, InvalidSegment)

    letter = bury(record, failure)
    headers = dict(letter.headers)
    assert letter.key == (record.key or b"")
    assert letter.value == (record.value or b"")
    assert letter.headers[: len(record.headers)] == record.headers
    assert headers["earshot_stage"] == b"decode"
    assert headers["__streams.errors.exception"] == b"earshot.segments.InvalidSegment"
    assert headers["__streams.errors.topic"] == b"segments"
    assert headers["__streams.errors.partition"] == b"2"
    assert headers["__streams.errors.offset"] == b"41"


def test_a_spectrogram_that_cannot_be_computed_fails_at_that_stage() -> None:
    failure = prepare(incoming(), SpectrogramParams(mels=0))
    assert isinstance(failure, Failure)
    assert failure.stage == "spectrogram"


def test_a_label_carries_the_best_classes_and_the_version_that_answered() -> None:
    prepared = prepare(incoming())
    assert isinstance(prepared, Prepared)
    prediction = Prediction({"siren": 0.2, "dog_bark": 0.7, "drilling": 0.1}, model_version=3)
    made = label(prepared, prediction, model_name="earshot", top_k=2, threshold=0.5)
    assert (made.label, made.score, made.model_version) == ("dog_bark", 0.7, 3)
    assert list(made.scores) == ["dog_bark", "siren"]
    assert made.segment_id == prepared.segment.segment_id

    unsure = label(prepared, prediction, model_name="earshot", top_k=2, threshold=0.8)
    assert unsure.label == "unknown"
    assert unsure.scores == made.scores


def test_a_label_is_unknown_where_the_model_itself_says_so() -> None:
    prepared = prepare(incoming())
    assert isinstance(prepared, Prepared)
    prediction = Prediction(
        {"siren": 0.2, "dog_bark": 0.8}, model_version=3, thresholds={"siren": 0.1, "dog_bark": 0.9}
    )
    assert label(prepared, prediction, model_name="earshot", top_k=2, threshold=0.5).label == "unknown"
