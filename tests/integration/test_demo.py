"""The demo as a user runs it: real broker, model server, worker and agents, all as processes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from local.recordings import find_recordings
from local.settings import SAMPLES
from tests.processes import Command

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

START_S = 300.0


def test_the_demo_labels_every_segment_of_the_samples_and_leaves_nothing_behind(tmp_path: Path) -> None:
    report = tmp_path / "summary.json"
    with Command("demo", "--speed", "4", "--json", str(report), log=tmp_path / "log", TMPDIR=str(tmp_path)) as demo:
        assert demo.wait(START_S) == 0, demo.output
        assert demo.left_behind() == []
    summary = json.loads(report.read_text())
    assert summary["segments_produced"] >= len(find_recordings(SAMPLES))
    assert summary["labels_received"] == summary["segments_produced"]
    assert (summary["lost"], summary["duplicates"], summary["dead_lettered"]) == (0, 0, 0)
    assert summary["recordings_unheard"] == []
    assert summary["latency_ms"]["p50"] > 0
    assert "Summary" in demo.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "summary.json"]


def test_an_agents_setting_out_of_bounds_is_named_before_anything_is_started(tmp_path: Path) -> None:
    with Command("demo", log=tmp_path / "log", EARSHOT_AGENT_VAD_MODE="9") as demo:
        assert demo.wait(60.0) == 2, demo.output
    assert "EARSHOT_AGENT_VAD_MODE" in demo.output
    assert "starting" not in demo.output


def test_recordings_that_cannot_be_read_are_named_and_the_others_are_labelled(tmp_path: Path) -> None:
    recordings = tmp_path / "recordings"
    (recordings / "dog_bark").mkdir(parents=True)
    shutil.copy(SAMPLES / "dog_bark.wav", recordings / "dog_bark" / "1.wav")
    (recordings / "dog_bark" / "2.wav").write_bytes(b"RIFF, it says")
    (recordings / "dog_bark" / "3.flac").touch()
    report = tmp_path / "summary.json"
    arguments = ["--input", str(recordings), "--speed", "0", "--devices", "1", "--json", str(report)]
    with Command("demo", *arguments, log=tmp_path / "log") as demo:
        assert demo.wait(START_S) == 0, demo.output
    summary = json.loads(report.read_text())
    assert summary["labels_received"] == summary["segments_produced"] == 1
    assert [row["truth"] for row in summary["recordings"]] == ["dog_bark"]
    assert len(summary["recordings_unreadable"]) == 2
    assert "2.wav" in summary["recordings_unreadable"][0]


def test_ctrl_c_while_labels_come_ends_with_a_summary_and_nothing_left_behind(tmp_path: Path) -> None:
    report = tmp_path / "summary.json"
    arguments = ["--devices", "1", "--json", str(report)]
    with Command("demo", *arguments, log=tmp_path / "log", TMPDIR=str(tmp_path)) as demo:
        demo.wait_for("device-1", START_S)
        demo.interrupt()
        demo.wait(60.0)
        assert "Summary" in demo.output
        assert demo.left_behind() == []
    assert json.loads(report.read_text())["recordings_played"] < len(find_recordings(SAMPLES))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "summary.json"]


def test_ctrl_c_while_it_starts_ends_it_with_nothing_left_behind(tmp_path: Path) -> None:
    with Command("demo", log=tmp_path / "log", TMPDIR=str(tmp_path)) as demo:
        demo.wait_for("Kafka", START_S)
        demo.interrupt()
        assert demo.wait(60.0) == 130, demo.output
        assert demo.left_behind() == []
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_a_folder_without_recordings_is_one_clear_message(tmp_path: Path) -> None:
    with Command("demo", "--input", str(tmp_path), log=tmp_path / "log") as demo:
        assert demo.wait(60.0) == 2
        assert demo.output.strip() == f"earshot: {tmp_path} holds no .flac, .mp3, .ogg, .wav file"


def test_a_summary_that_could_not_be_written_is_said_before_anything_starts(tmp_path: Path) -> None:
    with Command("demo", "--json", str(tmp_path / "nowhere" / "summary.json"), log=tmp_path / "log") as demo:
        assert demo.wait(60.0) == 2
        assert demo.output.startswith(f"earshot: cannot write {tmp_path / 'nowhere' / 'summary.json'}")


@pytest.mark.skipif("EARSHOT_URBANSOUND8K" not in os.environ, reason="EARSHOT_URBANSOUND8K names no data set")
def test_clips_of_the_data_set_at_speed_lose_nothing_and_have_an_accuracy(tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    for clip in sorted((Path(os.environ["EARSHOT_URBANSOUND8K"]) / "audio" / "fold1").iterdir())[::20]:
        (clips / clip.name).symlink_to(clip)
    report = tmp_path / "summary.json"
    arguments = ["--input", str(clips), "--speed", "0", "--devices", "4", "--json", str(report)]
    with Command("demo", *arguments, log=tmp_path / "log") as demo:
        assert demo.wait(START_S) == 0, demo.output
    summary = json.loads(report.read_text())
    assert summary["labels_received"] == summary["segments_produced"] >= 40
    assert (summary["lost"], summary["duplicates"], summary["dead_lettered"]) == (0, 0, 0)
    # The starter model was trained on these clips: this says that truth, sound and label belong together, no more.
    assert summary["accuracy"] > 0.5
