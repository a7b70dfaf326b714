from __future__ import annotations

import json

import jsonschema
import pytest

from earshot.labels import SCHEMA_PATH, InvalidLabel, Label, label_id, label_schema
from tests.earshot.test_segments import segment

SCORES = {"siren": 0.2, "dog_bark": 0.7, "drilling": 0.1}


def label(threshold: float = 0.0, top_k: int = 5) -> Label:
    return Label.of(segment(), SCORES, model_name="earshot", model_version=3, threshold=threshold, top_k=top_k)


def test_the_best_class_is_the_label_and_scores_are_ranked() -> None:
    made = label(top_k=2)
    assert (made.label, made.score) == ("dog_bark", 0.7)
    assert list(made.scores.items()) == [("dog_bark", 0.7), ("siren", 0.2)]


def test_below_its_threshold_a_label_is_unknown_with_the_scores_still_there() -> None:
    made = label(threshold=0.71)
    assert (made.label, made.score, made.scores["dog_bark"]) == ("unknown", 0.7, 0.7)


def test_below_the_models_threshold_for_its_class_a_label_is_unknown_too() -> None:
    def made(**thresholds: float) -> str:
        one = Label.of(segment(), SCORES, model_name="earshot", model_version=3, threshold=0.5, thresholds=thresholds)
        return one.label

    assert made(dog_bark=0.71) == "unknown"
    assert made(dog_bark=0.7, siren=0.9) == "dog_bark"
    assert made(dog_bark=0.1) == "dog_bark"


def test_a_label_is_the_same_after_the_topic() -> None:
    assert Label.from_record(label().to_record().value) == label()


def test_a_segment_labelled_again_by_the_same_version_has_the_same_id_and_by_another_a_new_one() -> None:
    assert label().label_id == label().label_id == label_id("3f2b", "earshot", 3)
    assert label_id("3f2b", "earshot", 4) != label().label_id


OWN = json.loads(Label.of(segment(), SCORES, model_name="earshot", model_version=3).to_record().value)


@pytest.mark.parametrize(
    "value",
    [None, b"", b"[]", b'{"label": "siren"}', b"\xff", json.dumps({**OWN, "level_dbfs": float("nan")}).encode()],
    ids=["null", "empty", "a list", "one field", "not UTF-8", "not a number"],
)
def test_what_is_no_label_is_refused(value: bytes | None) -> None:
    with pytest.raises(InvalidLabel):
        Label.from_record(value)


def test_the_schema_in_the_repository_is_the_labels_and_judges_records_as_the_code_does() -> None:
    schema = json.loads(SCHEMA_PATH.read_text())
    assert schema == label_schema(), "run `python -m earshot.labels`"
    good = json.loads(label().to_record().value)
    jsonschema.validate(good, schema)
    for bad in ({**good, "score": 1.5}, {**good, "surprise": 1}, {k: v for k, v in good.items() if k != "label_id"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)
