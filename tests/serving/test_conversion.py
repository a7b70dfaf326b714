from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import serving.engines.conversion
from serving.engines.conversion import (
    ABANDONED_S,
    ABOUT_FILE,
    ANSWERS_FILE,
    NETWORK_FILE,
    NO_ROOM,
    WEIGHTS_FILE,
    CannotConvert,
    Converted,
    Kind,
    convert,
)
from serving.export import export_saved_model
from serving.failures import CannotLoadNow
from serving.layout import INT8_FILE
from serving.modelserver.loading import may_pass
from serving.spectrogram_graph import spectrogram_graph
from tests.processes import Command
from tests.serving.conftest import CLASS_NAMES, THRESHOLDS, small_network
from tests.test_imports import brought_in_by
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def filled(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that has the exported version's conversion; tests copy it."""
    cache = tmp_path_factory.mktemp("conversions")
    convert(exported, cache)
    return cache


@pytest.fixture
def cache(filled: Path, tmp_path: Path) -> Path:
    return shutil.copytree(filled, tmp_path / "cache")


@pytest.fixture
def conversions(filled: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The versions that are converted from now on; what comes of it is a copy, as converting takes seconds."""
    made: list[Path] = []

    def copied(version_dir: Path, folder: Path, stop: threading.Event) -> None:
        made.append(version_dir)
        shutil.copytree(entry(filled), folder, dirs_exist_ok=True)

    monkeypatch.setattr(serving.engines.conversion, "_run", copied)
    return made


def entry(cache: Path) -> Path:
    (folder,) = cache.iterdir()
    return folder


def test_a_version_is_converted_with_what_does_not_depend_on_the_input_written_down(
    exported: Path, cache: Path, conversions: list[Path]
) -> None:
    converted = convert(exported, cache)
    assert not conversions
    assert converted.computed == ["scores"]
    assert [name.decode() for name in converted.repeated["classes"]] == CLASS_NAMES
    np.testing.assert_array_equal(converted.repeated["thresholds"], THRESHOLDS)
    assert {name: (takes.kind, takes.name) for name, takes in converted.signatures.items()} == {
        "serving_default": (Kind.IMAGE, "spectrogram"),
        "pcm": (Kind.SOUND, "pcm"),
    }
    assert converted.answers["scores"].shape == (len(converted.images), len(CLASS_NAMES))


def test_a_version_of_the_same_content_is_not_converted_again_wherever_it_is(
    exported: Path, cache: Path, tmp_path: Path, conversions: list[Path]
) -> None:
    copied = shutil.copytree(exported, tmp_path / "7")
    (copied / INT8_FILE).write_text("{}")
    convert(copied, cache)
    assert not conversions
    assert entry(cache)


def test_what_is_converted_already_is_read_without_tensorflow(exported: Path, cache: Path) -> None:
    code = (
        f"from pathlib import Path; from serving.engines.conversion import convert; convert(Path({str(exported)!r}), "
    )
    assert "tensorflow" not in brought_in_by(f"{code}Path({str(cache)!r}))")


@pytest.mark.parametrize("file", [ABOUT_FILE, ANSWERS_FILE, NETWORK_FILE, WEIGHTS_FILE])
@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_a_broken_entry_is_noticed_and_made_anew(
    exported: Path, filled: Path, cache: Path, conversions: list[Path], file: str, damage: str
) -> None:
    path = entry(cache) / file
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-7])
    else:
        path.unlink()
    convert(exported, cache)
    convert(exported, cache)
    assert conversions == [exported]
    assert path.read_bytes() == (entry(filled) / file).read_bytes()
    assert entry(cache).name == entry(filled).name


def test_another_openvino_converts_anew(
    exported: Path, cache: Path, conversions: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda _: "2027.0.0")
    convert(exported, cache)
    assert conversions == [exported]
    assert len(list(cache.iterdir())) == 2


def test_entries_that_nobody_used_for_longest_are_forgotten(
    exported: Path, cache: Path, conversions: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = entry(cache)
    monkeypatch.setattr(serving.engines.conversion, "KEPT", 2)
    for number, name in enumerate(("older", "old", "lately")):
        os.utime(shutil.copytree(own, own.with_name(name)), (number, number))
    shutil.rmtree(own)
    convert(exported, cache)
    assert {folder.name for folder in cache.iterdir()} == {own.name, "lately"}


def test_entries_and_folders_that_another_process_removes_meanwhile_fail_nothing(
    exported: Path, cache: Path, conversions: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = entry(cache)
    monkeypatch.setattr(serving.engines.conversion, "KEPT", 1)
    stat = Path.stat

    def gone(path: Path, **options: Any) -> os.stat_result:
        if path.name in {"old", ".old"}:
            shutil.rmtree(path, ignore_errors=True)
        return stat(path, **options)

    for name in ("old", ".old"):
        shutil.copytree(own, cache / name)
    shutil.rmtree(own)
    monkeypatch.setattr(Path, "stat", gone)
    assert convert(exported, cache).computed == ["scores"]
    assert conversions == [exported]


def test_a_broken_entry_that_another_process_removes_meanwhile_is_made_anew(
    exported: Path, cache: Path, conversions: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (entry(cache) / ABOUT_FILE).unlink()
    read = Converted.read

    def gone(folder: Path) -> Converted:
        try:
            return read(folder)
        except ValueError:
            shutil.rmtree(folder)
            raise

    monkeypatch.setattr(Converted, "read", gone)
    assert convert(exported, cache).computed == ["scores"]
    assert conversions == [exported]


@pytest.mark.usefixtures("conversions")
def test_what_killed_conversions_left_behind_is_removed_once_it_is_old(exported: Path, cache: Path) -> None:
    shutil.rmtree(entry(cache))
    for name, age_s in ((".abandoned", ABANDONED_S + 60), (".under-way", 60)):
        (cache / name).mkdir()
        (cache / name / NETWORK_FILE).touch()
        os.utime(cache / name, (time.time() - age_s,) * 2)
    convert(exported, cache)
    assert {folder.name for folder in cache.glob(".*")} == {".under-way"}


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets a line of shell stand for the process that converts."""

    def stands_in(line: str) -> None:
        script = tmp_path / "python"
        script.write_text(f"#!/bin/sh\n{line}\n")
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))

    return stands_in


@pytest.mark.parametrize(
    ("line", "said"),
    [("kill -9 $$", "ended by SIGKILL.*memory"), (f"echo disk full >&2; exit {NO_ROOM}", r"no room .*\(disk full\)")],
)
def test_a_conversion_without_memory_or_disk_may_be_tried_again(
    exported: Path, tmp_path: Path, child: Any, line: str, said: str
) -> None:
    child(line)
    with pytest.raises(CannotLoadNow, match=said) as failure:
        convert(exported, tmp_path / "cache")
    assert may_pass(failure.value)
    assert not list((tmp_path / "cache").iterdir())


def test_a_conversion_that_fails_otherwise_is_not_tried_again(exported: Path, tmp_path: Path, child: Any) -> None:
    child("echo no such operation >&2; exit 1")
    with pytest.raises(CannotConvert, match=r"exit status 1.*--engine tensorflow.*no such operation") as failure:
        convert(exported, tmp_path / "cache")
    assert not may_pass(failure.value)


@pytest.mark.parametrize("file", [ANSWERS_FILE, WEIGHTS_FILE])
def test_a_full_disk_has_an_exit_status_of_its_own(exported: Path, tmp_path: Path, file: str) -> None:
    (tmp_path / file).symlink_to("/dev/full")
    command = [
        sys.executable,
        "-m",
        "serving.engines.conversion_process",
        str(exported),
        str(tmp_path),
        str(os.getpid()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == NO_ROOM, done.stderr
    assert "Traceback" not in done.stderr


def test_a_conversion_is_ended_where_it_is_to_stop(exported: Path, tmp_path: Path, child: Any) -> None:
    child(f"echo $$ > {tmp_path}/pid; exec sleep 60")
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        converted = pool.submit(convert, exported, tmp_path / "cache", stop)
        wait_for(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text(), 10, "the conversion to begin")
        stop.set()
        with pytest.raises(CannotLoadNow, match="stopped"):
            converted.result(timeout=5)
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()
    assert not list((tmp_path / "cache").iterdir())


def test_a_conversion_ends_with_a_server_that_is_killed(base_path: Path, tmp_path: Path) -> None:
    options = ("--engine", "openvino", "--model-base-path", str(base_path), "--port", "0", "--rest-api-port", "0")
    with Command("serve", *options, log=tmp_path / "log", EARSHOT_CACHE=str(tmp_path / "cache")) as server:
        server.wait_for("converting for OpenVINO", 60)
        wait_for(lambda: "conversion_process" in "".join(server.left_behind()), 10, "the conversion to begin")
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        wait_for(lambda: not server.left_behind(), 5, "the conversion to end")


def save(folder: Path, function: Any, **specs: tf.TensorSpec) -> Path:
    module = tf.Module()
    module.weights = [tf.Variable(1.0)]
    signature = tf.function(function).get_concrete_function(**specs)
    tf.saved_model.save(module, str(folder), {"serving_default": signature})
    return folder


def test_what_is_no_model_of_earshots_is_refused_with_what_serves_it(tmp_path: Path) -> None:
    spec = tf.TensorSpec([None], tf.float32, name="x")
    folder = save(tmp_path / "1", lambda x: {"y": 0.5 * x + 2.0}, x=spec)
    with pytest.raises(CannotConvert, match=r"'serving_default' takes neither.*--engine tensorflow"):
        convert(folder, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_pcm_that_the_graph_makes_other_images_of_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.export.spectrogram_graph", lambda pcm, params: spectrogram_graph(pcm, params)[:, ::-1])
    folder = export_saved_model(small_network(), CLASS_NAMES, tmp_path / "1")
    with pytest.raises(CannotConvert, match=r"other images of PCM"):
        convert(folder, tmp_path / "cache")


def test_a_broken_saved_model_is_refused(exported: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(exported, tmp_path / "1")
    (folder / "saved_model.pb").write_bytes(b"no graph")
    with pytest.raises(CannotConvert, match="cannot be loaded"):
        convert(folder, tmp_path / "cache")
