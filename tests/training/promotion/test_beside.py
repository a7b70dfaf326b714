"""What `earshot models promote` says of thresholds and background, which decide nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from earshot.audio import SAMPLE_RATE_HZ
from serving.export import export_saved_model
from serving.layout import CARD_FILE, PROMOTION_FILE, TRAINING_FILE
from tests.producers.sounds import noise
from tests.training.conftest import CLASSES
from tests.training.promotion.conftest import REFUSED, base_path_with, network, promote
from training.data.clips import Clip
from training.evaluation.answers import Answers
from training.evaluation.asking import NoClipReadable
from training.release.promotion import _of_both

pytestmark = pytest.mark.integration


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A folder of two recordings of background."""
    folder = tmp_path / "room"
    folder.mkdir()
    for number in range(2):
        soundfile.write(folder / f"{number}.wav", noise(6.0, -30.0, seed=number), SAMPLE_RATE_HZ)
    return folder


def never_sure(data: Path, folder: Path, class_names: tuple[str, ...] = CLASSES) -> Path:
    """A version that names every clip right if its class names are, and labels nothing; it has heard one of `room`."""
    record = {TRAINING_FILE: json.dumps({"recordings": ["background:0"]})}
    unsure = network(data, sureness=0.01)
    return export_saved_model(unsure, class_names, folder / "7", card="# Silent\n", extra=record, thresholds=[1.0] * 3)


def test_false_accepts_of_both_are_said_and_kept(bad: Path, data: Path, room: Path, tmp_path: Path) -> None:
    base_path = base_path_with(bad, tmp_path)
    done = promote(never_sure(data, tmp_path), base_path, data, "--background", str(room))
    assert done.exit_code == 0, done.output
    left_out = (
        "1 sounds of background left out: the candidate was trained on their recordings, or its weights have heard them"
    )
    assert left_out in done.output
    said = "background, 2 segments of 1 recordings, false accepts an hour:\n  version 1              1200\n"
    assert f"{said}  the candidate             0\n" in done.output
    assert (
        "  version 1              0.0% right, 0.0% unknown\n  the candidate          0.0% right, 100.0% unknown\n"
        in done.output
    )
    event = json.loads((base_path / "2" / PROMOTION_FILE).read_text())
    assert (event["labels"], event["against"]["labels"]) == (
        {"right": 0.0, "unknown": 1.0},
        {"right": 0.0, "unknown": 0.0},
    )
    assert not any("labels fewer so" in note for note in event["notes"])
    assert event["background"] == {"data": [room.name], "recordings": 1, "segments": 2}
    assert (event["false_accepts_per_hour"], event["against"]["false_accepts_per_hour"]) == (0.0, 1200.0)
    assert left_out in event["notes"]
    card = (base_path / "2" / CARD_FILE).read_text()
    assert "Of background, 2 segments of 1 recordings, it makes 0 false accepts an hour, version 1 1200. " in card
    assert f"{left_out}." in card


def test_a_clip_that_one_version_could_not_hear_counts_for_neither() -> None:
    clips = [Clip(Path(f"{number}.wav"), "hum", 1, str(number)) for number in range(3)]

    def answers(heard: list[Clip]) -> Answers:
        scores = {clip: np.array([[1.0 - clips.index(clip), clips.index(clip)]], np.float32) for clip in heard}
        return Answers.of(scores, ["hum", "beep"])

    ours, theirs = _of_both(answers(clips[:2]), answers(clips[1:]))
    assert ours.clips == theirs.clips == (clips[1],)
    assert ours.segment.tolist() == theirs.segment.tolist() == [[0.0, 1.0]]
    with pytest.raises(NoClipReadable):
        _of_both(answers(clips[:1]), answers(clips[1:]))


def test_false_accepts_decide_nothing(good: Path, data: Path, room: Path, tmp_path: Path) -> None:
    more = base_path_with(never_sure(data, tmp_path, CLASSES[1:] + CLASSES[:1]), tmp_path / "more")
    done = promote(good, more, data, "--background", str(room))
    assert done.exit_code == 0, done.output
    assert "  version 1                 0\n  the candidate          1200\n" in done.output
    fewer = base_path_with(good, tmp_path / "fewer")
    done = promote(tmp_path / "7", fewer, data, "--background", str(room))
    assert done.exit_code == REFUSED, done.output
    assert "  version 1              1200\n  the candidate             0\n" in done.output


def test_background_that_cannot_be_heard_is_said_and_decides_nothing(
    good: Path, bad: Path, data: Path, tmp_path: Path
) -> None:
    silent = tmp_path / "silent"
    silent.mkdir()
    soundfile.write(silent / "0.wav", np.zeros(3 * SAMPLE_RATE_HZ), SAMPLE_RATE_HZ)
    base_path = base_path_with(bad, tmp_path)
    done = promote(good, base_path, data, "--background", str(silent))
    assert done.exit_code == 0, done.output
    event = json.loads((base_path / "2" / PROMOTION_FILE).read_text())
    assert event["notes"][-1] == "no background can be read, so false accepts are not counted"
    assert "background" not in event
    forced = promote(good, base_path, None, "--background", str(silent), "--force")
    assert forced.exit_code == 0, forced.output
    assert "nothing was compared, so what was named for it decides nothing: background" in forced.output


def test_that_better_names_with_higher_thresholds_make_fewer_right_labels_is_said(data: Path, tmp_path: Path) -> None:
    record = {TRAINING_FILE: json.dumps({"recordings": []})}
    two_mixed_up = (CLASSES[0], CLASSES[2], CLASSES[1])
    there = export_saved_model(network(data), two_mixed_up, tmp_path / "there" / "1", extra=record)
    base_path = base_path_with(there, tmp_path)
    done = promote(never_sure(data, tmp_path), base_path, data)
    assert done.exit_code == 0, done.output
    event = json.loads((base_path / "2" / PROMOTION_FILE).read_text())
    assert (event["labels"]["right"], event["against"]["labels"]["right"]) == (0.0, 0.3333)
    note = "the candidate names no fewer clips right than version 1, but labels fewer so: its thresholds turn more of"
    assert note in done.output
    assert any(each.startswith(note) for each in event["notes"])
