from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tensorflow as tf

import serving.conversion
from serving.conversion import ABOUT_FILE, ANSWERS_FILE, NETWORK_FILE, WEIGHTS_FILE, CannotConvert, Kind, convert
from serving.export import export_saved_model
from serving.layout import INT8_FILE
from serving.spectrogram_graph import spectrogram_graph
from tests.serving.conftest import CLASS_NAMES, THRESHOLDS, small_network
from tests.test_imports import brought_in_by

if TYPE_CHECKING:
    from pathlib import Path


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

    def copied(version_dir: Path, folder: Path) -> None:
        made.append(version_dir)
        shutil.copytree(entry(filled), folder, dirs_exist_ok=True)

    monkeypatch.setattr(serving.conversion, "_run", copied)
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
    code = f"from pathlib import Path; from serving.conversion import convert; convert(Path({str(exported)!r}), "
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
    monkeypatch.setattr(serving.conversion, "KEPT", 2)
    for number, name in enumerate(("older", "old", "lately")):
        os.utime(shutil.copytree(own, own.with_name(name)), (number, number))
    shutil.rmtree(own)
    convert(exported, cache)
    assert {folder.name for folder in cache.iterdir()} == {own.name, "lately"}


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
