"""`earshot models` as an operator meets it; promotion is in tests/training/promotion."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

from earshot.cli import app
from serving.layout import INT8_FILE, PROMOTION_FILE
from tests.serving.conftest import serve
from tests.serving.test_catalogue import make, names

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

USAGE = 2


def models(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["models", *map(str, words)], env={"COLUMNS": "160"})


def test_the_list_has_a_row_for_each_version_the_newest_first(tmp_path: Path) -> None:
    held_out = {"accuracy": 0.707, "clips": 873, "heard_clips": 800}
    make(tmp_path, 9, made="2026-11-23T18:04:05Z", held_out=held_out)
    make(tmp_path, 10)
    (make(tmp_path, 11) / "saved_model.pb").unlink()
    (tmp_path / "10" / PROMOTION_FILE).write_text('{"forced": true}')
    (tmp_path / "10" / INT8_FILE).write_text("{}")
    assert models("rollback", "--model-base-path", tmp_path, "--to", "9").exit_code == 0
    (tmp_path / ".13-unfinished").mkdir()
    done = models("list", "--model-base-path", tmp_path)
    assert done.exit_code == 0
    head, *rows = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert head == "version made (UTC) classes accuracy size"
    assert [row.split()[0] for row in rows] == ["12", "11", "10", "9"]
    heard = "weights have heard 800 of these clips"
    assert rows[0] == f"12 2026-11-23 18:04 2 70.7% of 873 (held out) 0.1 MB latest, version 9 again, {heard}"
    assert rows[1].endswith("not whole: lacks saved_model.pb")
    assert rows[2].endswith(" MB 8 bits, published by force")
    assert rows[3].endswith(f"0.1 MB {heard}")


def test_the_list_as_json_says_the_same(tmp_path: Path) -> None:
    folds = {"1": {"accuracy": 0.5, "clips": 10}, "2": {"accuracy": 0.5, "clips": 2, "heard_clips": 1}}
    make(tmp_path, 9, made="2026-11-23T18:04:05Z", folds=folds)
    (make(tmp_path, 10) / "saved_model.pb").unlink()
    ten, nine = json.loads(models("list", "--model-base-path", tmp_path, "--json").stdout)
    assert nine.pop("size_bytes") > 100_000
    assert nine == {
        "version": 9,
        "made": "2026-11-23T18:04:05Z",
        "classes": 2,
        "accuracy": 0.5,
        "judged_on": "folds",
        "judged_clips": 12,
        "judged_heard": 1,
        "latest": False,
        "whole": True,
        "lacks": None,
        "in_8_bits": False,
        "again": None,
        "forced": False,
    }
    # TensorFlow Serving takes the highest number, whole or not.
    assert (ten["latest"], ten["whole"], ten["lacks"], ten["accuracy"]) == (True, False, "saved_model.pb", None)


def test_a_base_path_without_versions_is_an_empty_list(tmp_path: Path) -> None:
    done = models("list", "--model-base-path", tmp_path)
    assert (done.exit_code, done.stdout) == (0, "")
    assert "holds no version" in done.stderr
    assert json.loads(models("list", "--model-base-path", tmp_path, "--json").stdout) == []


@pytest.mark.parametrize("command", ["list", "rollback"])
def test_what_is_no_base_path_ends_with_status_2_and_says_so(command: str, tmp_path: Path) -> None:
    done = models(command, "--model-base-path", tmp_path / "nowhere")
    assert done.exit_code == USAGE
    assert done.stderr.startswith(f"earshot: {tmp_path / 'nowhere'} is no folder; --model-base-path names")
    assert models(command).exit_code == USAGE


def test_a_rollback_that_cannot_be_ends_with_status_2_and_writes_nothing(tmp_path: Path) -> None:
    make(tmp_path, 4)
    done = models("rollback", "--model-base-path", tmp_path, "--to", "3")
    assert (done.exit_code, done.stdout) == (USAGE, "")
    assert "holds no version 3 to go back to: only 4 is there" in done.stderr
    assert names(tmp_path) == ["4"]


def test_a_rollback_says_so_where_servers_in_8_bits_would_not_follow(tmp_path: Path) -> None:
    for number in (1, 2, 3, 4):
        make(tmp_path, number)
    for number in (2, 4):
        (tmp_path / str(number) / INT8_FILE).write_text("{}")
    (tmp_path / "4" / "saved_model.pb").unlink()  # no server takes it
    assert not models("rollback", "--model-base-path", tmp_path, "--to", "2").stderr
    assert models("rollback", "--model-base-path", tmp_path, "--to", "3").exit_code == 0
    done = models("rollback", "--model-base-path", tmp_path, "--to", "1")
    assert "servers that compute in 8 bits go on with version 5: `earshot models quantize`" in done.stderr


def test_what_was_published_by_force_is_so_once_more_after_a_rollback(tmp_path: Path) -> None:
    for number in (1, 2):
        make(tmp_path, number)
    (tmp_path / "1" / PROMOTION_FILE).write_text('{"event": "promotion", "forced": true}')
    assert models("rollback", "--model-base-path", tmp_path).exit_code == 0
    there = json.loads(models("list", "--model-base-path", tmp_path, "--json").stdout)
    assert [one["forced"] for one in there] == [True, False, True]


def test_a_running_server_takes_a_version_up_that_was_rolled_back_to(base_path: Path) -> None:
    second = base_path / "2"
    shutil.copytree(base_path / "1", second)
    (second / "assets.extra" / "classes.txt").write_text("other\n")
    with serve(base_path) as server:
        server.wait_until_available(2)
        done = models("rollback", "--model-base-path", base_path, "--reason", "2 hears sirens only")
        # The server, in this same process, may log meanwhile; its lines name the model.
        said = [line for line in done.stdout.splitlines() if "model=earshot" not in line]
        assert (done.exit_code, said) == (0, [f"published {base_path / '3'}, which is version 1 again"])
        server.wait_until_available(3)
        answer = server.predict(signature="pcm", pcm=np.zeros((1, 48_000), np.int16))
        assert answer.model_spec.version.value == 3
