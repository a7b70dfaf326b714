"""`earshot models promote` from end to end: small models, real model servers, synthetic sounds."""

from __future__ import annotations

import json
import shutil
import signal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tensorflow as tf

from serving.export import export_saved_model
from serving.layout import CARD_FILE, INT8_FILE, PROMOTION_FILE, SAVED_MODEL_FILE, TRAINING_FILE, WARMUP_FILE
from serving.tfrecord import read_records, write_records
from tests.processes import Command
from tests.serving.conftest import serve
from tests.training.conftest import CLASSES, CLIPS
from tests.training.promotion.conftest import REFUSED, USAGE, base_path_with, names, network, promote, words
from tests.waiting import wait_for
from training.data.datasets import find_clips
from training.evaluation.resampling import LEAST_RECORDINGS

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration


def test_a_better_version_is_published_with_its_figures_and_a_running_server_takes_it_up(
    good: Path, bad: Path, data: Path, tmp_path: Path
) -> None:
    base_path = base_path_with(bad, tmp_path)
    with serve(base_path) as server:
        server.wait_until_available(1)
        done = promote(good, base_path, data)
        assert done.exit_code == 0, done.output
        server.wait_until_available(2)
    assert f"published {base_path / '2'}" in done.output
    assert f"{CLIPS - 1} clips of {CLIPS - 1} recordings" in done.output
    assert "1 clips left out: version 1 was trained on their recordings" in done.output
    event = json.loads((base_path / "2" / PROMOTION_FILE).read_text())
    assert event.pop("at").endswith("Z")
    assert event == {
        "event": "promotion",
        "forced": False,
        "amiss": [],
        "class_map": None,
        "data": [data.name],
        "folds": "all",
        "clips": CLIPS - 1,
        "recordings": CLIPS - 1,
        "left_out": 0,
        "accuracy": 1.0,
        "labels": {"right": 1.0, "unknown": 0.0},
        "against": {"version": 1, "accuracy": 0.0, "labels": {"right": 0.0, "unknown": 0.0}, "left_out": 1},
        "difference": 1.0,
        "at_least": 1.0,
        "confidence": 0.95,
        "notes": [
            "1 clips left out: version 1 was trained on their recordings, or its weights have heard them",
            "2 clips could not be read, for one of the two or both, and count for neither",
        ],
    }
    card = (base_path / "2" / CARD_FILE).read_text()
    assert card.startswith("# Good\n\n## Version 2\n\nPublished on ")
    assert "it names 100.0% right, version 1 0.0%: +100.0 points" in card
    assert names(base_path) == ["1", "2"]
    assert not (good / PROMOTION_FILE).exists()


def test_a_candidate_that_lacks_classes_of_the_version_there_is_published_by_force_alone(
    good: Path, data: Path, tmp_path: Path
) -> None:
    record = {TRAINING_FILE: json.dumps({"recordings": []})}
    there = export_saved_model(network(data), ("owl", "unknown", "wren"), tmp_path / "there" / "1", extra=record)
    base_path = base_path_with(there, tmp_path)
    refused = promote(good, base_path, data)
    assert refused.exit_code == REFUSED, refused.output
    assert f"version 1 does not know {', '.join(CLASSES)}: clips of these count as wrong for it" in refused.output
    assert "the candidate does not know owl, wren, and was not published; --force" in refused.output
    assert names(base_path) == ["1"]
    forced = promote(good, base_path, data, "--force")
    assert forced.exit_code == 0, forced.output
    assert f"published {base_path / '2'} by force" in forced.output
    event = json.loads((base_path / "2" / PROMOTION_FILE).read_text())
    assert (event["forced"], event["amiss"]) == (True, ["does not know owl, wren"])
    assert "the candidate does not know owl, wren, which version 1 does" in event["notes"]
    assert "version 1 learnt background too, and the candidate did not; that decides nothing" in event["notes"]


def test_a_candidate_whose_answers_are_no_scores_is_refused_where_nothing_is_compared_too(
    good: Path, data: Path, tmp_path: Path
) -> None:
    broken = network(data)
    kernel, bias = broken.layers[-1].get_weights()
    broken.layers[-1].set_weights([kernel, np.full_like(bias, np.nan)])
    candidate = export_saved_model(broken, CLASSES, tmp_path / "broken" / "1")
    for base_path, there in ((tmp_path / "models", []), (base_path_with(good, tmp_path / "served"), ["1"])):
        refused = promote(candidate, base_path, None, "--force")
        assert refused.exit_code == REFUSED, refused.output
        assert "the candidate: the model answered scores outside 0 to 1" in refused.output
        assert names(base_path) == there


def test_that_servers_in_8_bits_would_not_take_the_candidate_is_said(
    good: Path, bad: Path, data: Path, tmp_path: Path
) -> None:
    base_path = base_path_with(bad, tmp_path)
    (base_path / "1" / INT8_FILE).write_text("{}")
    done = promote(good, base_path, data)
    assert done.exit_code == 0, done.output
    assert "version 1 can be served in 8 bits, the candidate cannot" in done.output


def test_what_force_loses_is_said_where_nothing_was_compared_too(good: Path, data: Path, tmp_path: Path) -> None:
    there = export_saved_model(network(data), ("owl", "hum", "wren"), tmp_path / "there" / "1")
    base_path = base_path_with(there, tmp_path)
    forced = promote(good, base_path, None, "--force")
    assert forced.exit_code == 0, forced.output
    event = json.loads((base_path / "2" / PROMOTION_FILE).read_text())
    assert event["amiss"] == ["is not shown to be better", "does not know owl, wren"]


def test_background_as_a_class_may_go(good: Path, data: Path, tmp_path: Path) -> None:
    record = {TRAINING_FILE: json.dumps({"recordings": []})}
    names_there = (CLASSES[1], "unknown", CLASSES[0])
    there = export_saved_model(network(data), names_there, tmp_path / "there" / "1", extra=record)
    ours = export_saved_model(network(data), CLASSES, tmp_path / "ours" / "1", extra=record)
    done = promote(ours, base_path_with(there, tmp_path), data)
    assert done.exit_code == 0, done.output
    assert "version 1 learnt background too, and the candidate did not; that decides nothing" in done.output


def test_a_version_that_is_no_better_is_refused_and_by_force_it_is_published_and_that_recorded(
    good: Path, bad: Path, data: Path, tmp_path: Path
) -> None:
    base_path = base_path_with(good, tmp_path)
    refused = promote(bad, base_path, data, "--folds", "all")
    assert refused.exit_code == REFUSED, refused.output
    assert "1 clips left out: the candidate was trained on their recordings" in refused.output
    assert "difference           -100.0 points" in refused.output
    assert "--force" in refused.output
    assert names(base_path) == ["1"]
    forced = promote(bad, base_path, data, "--force")
    assert forced.exit_code == 0, forced.output
    event = json.loads((base_path / "2" / PROMOTION_FILE).read_text())
    assert (event["forced"], event["accuracy"], event["left_out"], event["clips"]) == (True, 0.0, 1, CLIPS - 1)
    card = (base_path / "2" / CARD_FILE).read_text()
    assert "Published by force, though it is not shown to be better, on" in card
    assert "version 1 names all of these clips right: on others it may be beaten" in event["notes"]


def test_the_first_version_needs_no_clips_and_has_nothing_to_beat(good: Path, tmp_path: Path) -> None:
    base_path = tmp_path / "new" / "models"
    done = promote(good.parent, base_path, None)
    assert done.exit_code == 0, done.output
    assert f"the candidate is {good}\n" in done.output
    assert f"{base_path} was not there and has been made: servers have to watch it" in done.output
    assert "not compared: there was no version to beat" in done.output
    event = json.loads((base_path / "1" / PROMOTION_FILE).read_text())
    assert (event["forced"], event["not_compared"]) == (False, "there was no version to beat")


def test_a_version_that_no_server_can_load_is_not_published_by_force_either(
    good: Path, data: Path, tmp_path: Path
) -> None:
    base_path = base_path_with(good, tmp_path)
    broken = tmp_path / "9"
    shutil.copytree(good, broken)
    (broken / SAVED_MODEL_FILE).write_bytes(b"no graph at all")
    done = promote(broken, base_path, data, "--force")
    assert done.exit_code == REFUSED
    assert "the candidate cannot be served: " in done.output
    assert names(base_path) == ["1"]


@pytest.mark.parametrize("content", [None, b""])
def test_a_version_without_warm_up_requests_has_nothing_to_show_that_it_answers(
    good: Path, tmp_path: Path, content: bytes | None
) -> None:
    silent = tmp_path / "9"
    shutil.copytree(good, silent)
    (silent / WARMUP_FILE).unlink()
    if content is not None:
        (silent / WARMUP_FILE).write_bytes(content)
    done = promote(silent, tmp_path / "models", None, "--force")
    assert done.exit_code == USAGE
    assert "has no warm-up requests" in done.output
    assert names(tmp_path / "models") == []


def test_a_version_that_takes_other_sound_than_the_one_there_is_refused(good: Path, data: Path, tmp_path: Path) -> None:
    base_path = base_path_with(good, tmp_path)

    def scores(spectrogram: Any) -> Any:
        return {"scores": tf.zeros([tf.shape(spectrogram)[0], 3])}

    image = tf.TensorSpec([None, 128, 301, 3], tf.uint8, name="spectrogram")
    without_pcm = tf.function(scores, input_signature=[image])
    tf.saved_model.save(tf.Module(), str(tmp_path / "5"), {"serving_default": without_pcm})
    (tmp_path / "5" / WARMUP_FILE).parent.mkdir()
    of_pictures = [one for one in read_records(good / WARMUP_FILE) if b"pcm" not in one]
    write_records(tmp_path / "5" / WARMUP_FILE, of_pictures)
    done = promote(tmp_path / "5", base_path, data, "--force")
    assert done.exit_code == REFUSED
    assert "signature pcm of version 1 takes {'pcm': 'int16 [?, 48000]'}, the candidate's is missing" in done.output
    assert names(base_path) == ["1"]


def test_what_a_user_can_mend_is_said_before_any_server_starts(
    good: Path, bad: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("a server was started")

    monkeypatch.setattr("training.release.promotion.Trial", never)
    base_path = base_path_with(bad, tmp_path)
    seen_all = tmp_path / "3"
    shutil.copytree(good, seen_all)
    sources = [clip.source for clip in find_clips(data)]
    (seen_all / TRAINING_FILE).write_text(json.dumps({"recordings": sources}))
    (tmp_path / "empty").mkdir()
    unknown = tmp_path / "4"
    shutil.copytree(good, unknown)
    (unknown / TRAINING_FILE).unlink()
    for candidate, clips, said in (
        (tmp_path / "nowhere", data, "nowhere is not there: name the folder of a version"),
        (tmp_path / "empty", data, "empty is not a whole version: it lacks saved_model.pb"),
        (base_path, data, "is a version there already"),
        (base_path / "1", data, "is a version there already"),
        (good, None, "no clips: --data names labelled ones"),
        (good, tmp_path / "nowhere", "nowhere is not a folder"),
        (
            seen_all,
            data,
            f"none is new to both: the candidate knows the recordings of {len(sources)} clips; with --data",
        ),
        (unknown, data, "does not say which recordings it was trained on"),
    ):
        done = promote(candidate, base_path, clips)
        assert done.exit_code == USAGE, done.output
        assert said in done.output
    done = promote(good, tmp_path / "first", tmp_path / "nowhere")
    assert done.exit_code == USAGE, done.output
    assert "nowhere is not a folder" in done.output
    assert not (tmp_path / "first").exists()
    for folder, said in ((tmp_path / "none", "none is not a folder"), (data, "is of hiss and background too")):
        done = promote(good, base_path, data, "--background", str(folder))
        assert done.exit_code == USAGE, done.output
        assert said in done.output
    assert names(base_path) == ["1"]


def test_where_only_clips_that_cannot_be_read_are_new_to_a_candidate_it_says_how_to_have_others(
    good: Path, bad: Path, data: Path, tmp_path: Path
) -> None:
    base_path = base_path_with(bad, tmp_path)
    seen_all = tmp_path / "3"
    shutil.copytree(good, seen_all)
    known = [clip.source for clip in find_clips(data)]
    (seen_all / TRAINING_FILE).write_text(json.dumps({"recordings": known}))
    more = shutil.copytree(data, tmp_path / "more")
    for number in range(LEAST_RECORDINGS):
        (more / "hum" / f"broken-{number}.wav").write_bytes(bytes([number]))
    done = promote(seen_all, base_path, more)
    assert done.exit_code == USAGE
    assert f"knows the recordings of {len(known)} clips, and the others cannot be read (none of 10" in done.output
    assert "that both were trained without (--hold-out)" in done.output
    assert names(base_path) == ["1"]


def test_clips_that_the_version_there_knows_do_not_decide_about_its_successor(
    good: Path, bad: Path, data: Path, tmp_path: Path
) -> None:
    base_path = base_path_with(good, tmp_path)
    others = [clip.source for clip in find_clips(data) if clip.source != "hum/hum-0"]
    for sources, said in (
        (
            others,
            f"knows the recordings of 1 clips and the version there knows the recordings of {len(others)} more clips",
        ),
        (others[:-3], f"the version there knows the recordings of {len(others) - 3} more clips, which are left out"),
    ):
        (base_path / "1" / TRAINING_FILE).write_text(json.dumps({"recordings": sources}))
        done = promote(bad, base_path, data)
        assert done.exit_code == USAGE, done.output
        assert said in done.output
    forced = promote(bad, base_path, data, "--force")
    assert forced.exit_code == 0, forced.output
    assert (
        "at least 10 recordings are needed"
        in json.loads((base_path / "2" / PROMOTION_FILE).read_text())["not_compared"]
    )


def test_killed_in_the_midst_nothing_is_left_that_a_server_takes_and_no_process(
    good: Path, bad: Path, data: Path, tmp_path: Path
) -> None:
    base_path = base_path_with(bad, tmp_path)
    with Command(*words(good, base_path, data), log=tmp_path / "log", TMPDIR=str(tmp_path)) as command:
        command.wait_for("version 1 was trained on", 60)
        command.wait_for("the candidate ", 120)  # its progress bar
        command.process.send_signal(signal.SIGKILL)
        command.wait(10)
        wait_for(lambda: command.left_behind() == [], 10, "its model servers to be gone")
    visible = [name for name in names(base_path) if not name.startswith(".")]
    assert visible == ["1"]
    with serve(base_path) as server:
        server.wait_until_available(1)
        assert server.states() == {1: "AVAILABLE"}


def test_ctrl_c_in_the_midst_leaves_nothing_at_all(good: Path, bad: Path, data: Path, tmp_path: Path) -> None:
    base_path = base_path_with(bad, tmp_path)
    with Command(*words(good, base_path, data), log=tmp_path / "log", TMPDIR=str(tmp_path)) as command:
        command.wait_for("version 1 was trained on", 60)
        wait_for(lambda: any(tmp_path.glob("earshot-promote-*")), 60, "its folder")
        command.interrupt()
        assert command.wait(60) == 130
        assert command.left_behind() == []
        assert "Traceback" not in command.output
    assert names(base_path) == ["1"]
    assert not list(tmp_path.glob("earshot-promote-*"))
