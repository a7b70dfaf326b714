from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from earshot.audio import SEGMENT_SAMPLES
from earshot.labels import Label
from earshot.segments import Segment
from local.recordings import Recording
from local.tally import Tally

BARK = Recording(Path("bark.wav"), "dog_bark")
SIREN = Recording(Path("siren.wav"), "siren")


def segment(name: str) -> Segment:
    return Segment(name, "d", 0, datetime.now(UTC), "vad", -20.0, np.zeros(SEGMENT_SAMPLES, np.int16))


def label(name: str, scores: dict[str, float]) -> Label:
    return Label.of(segment(name), scores, model_name="m", model_version=1)


def test_a_segment_is_lost_until_its_label_or_dead_letter_comes() -> None:
    tally = Tally()
    for name in ("a", "b", "c"):
        tally.add_segment(name, None)
    tally.add_label(label("a", {"siren": 1.0}), 0)
    tally.add_dead_letter("b")
    summary = tally.summary(1.0)
    assert (summary["segments_produced"], summary["labels_received"], summary["dead_lettered"]) == (3, 1, 1)
    assert summary["lost"] == tally.waiting == 1


def test_a_second_label_of_a_segment_is_a_duplicate_and_changes_nothing_else() -> None:
    tally = Tally()
    tally.add_segment("a", None)
    tally.add_acknowledged("a", 1_000)
    assert tally.add_label(label("a", {"siren": 1.0}), 1_250) == 250.0
    assert tally.add_label(label("a", {"siren": 1.0}), 9_000) is None
    summary = tally.summary(1.0)
    assert (summary["labels_received"], summary["duplicates"]) == (1, 1)
    assert summary["latency_ms"] == {"p50": 250.0, "p95": 250.0, "p99": 250.0}


def test_a_label_read_before_its_segments_acknowledgement_still_counts_in_the_latency() -> None:
    tally = Tally()
    tally.add_segment("a", None)
    assert tally.add_label(label("a", {"siren": 1.0}), 1_100) is None
    tally.add_acknowledged("a", 1_000)
    assert tally.summary(1.0)["latency_ms"]["p50"] == 100.0


def test_a_recording_is_judged_by_the_mean_of_its_segments_scores() -> None:
    tally = Tally()
    scores = {"a": {"dog_bark": 0.45, "siren": 0.55}, "b": {"dog_bark": 0.9, "siren": 0.1}, "c": {"dog_bark": 0.6}}
    for name, recording in (("a", BARK), ("b", BARK), ("c", SIREN)):
        tally.add_segment(name, recording)
        tally.add_label(label(name, scores[name]), 0)
        tally.add_played(recording)
    summary = tally.summary(2.0)
    assert summary["accuracy"] == 0.5
    assert summary["segment_accuracy"] == round(1 / 3, 4)
    assert summary["confusion"] == {"dog_bark": {"dog_bark": 1}, "siren": {"dog_bark": 1}}
    assert summary["segments_per_s"] == 1.5


def test_a_recording_that_opened_no_gate_is_listed_and_judged_nowhere() -> None:
    tally = Tally()
    tally.add_played(SIREN)
    summary = tally.summary(1.0)
    assert summary["recordings_unheard"] == ["siren.wav"]
    assert summary["accuracy"] is None
    assert summary["latency_ms"] == {"p50": None, "p95": None, "p99": None}
