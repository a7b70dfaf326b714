from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tensorflow as tf
import typer

import serving.starter
from earshot.audio import windows
from earshot.labels import UNKNOWN
from earshot.spectrogram import spectrogram
from serving.engines.openvino_engine import OpenVinoEngine, Precision
from serving.failures import InvalidModelFile
from serving.inspection import recordings_seen, sounds_heard
from serving.layout import CARD_FILE
from serving.starter import STARTER, CannotExpand, ensure_starter, ensure_starter_aside, main
from training.data.clips import load_clip
from training.data.noises import coloured

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLES = Path(__file__).parents[2] / "samples"
HEARD_RIGHT = {"car_horn", "children_playing", "dog_bark", "jackhammer", "street_music"}
"""Sample clips whose first segment the starter model names as their class; an engine and a siren it does not. None is
of what its head learnt; its blocks heard, unlabelled, all but those of the car, the engine and the jackhammer."""

EXPAND = """
import pathlib, sys
import serving.export
from serving.starter import ensure_starter
print("ready", flush=True)
sys.stdin.readline()
print(ensure_starter(pathlib.Path(sys.argv[1])))
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that two processes, this one and another, filled at once."""
    folder = tmp_path_factory.mktemp("cache")
    command = [sys.executable, "-c", EXPAND, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "ready\n"
        assert other.stdin
        other.stdin.write("\n")
        other.stdin.flush()
        base = ensure_starter(folder)
        said, _ = other.communicate(timeout=240)
    assert (other.returncode, said) == (0, f"{base}\n")
    return folder


@pytest.fixture(scope="module")
def loaded(cache: Path) -> Any:
    return tf.saved_model.load(str(ensure_starter(cache) / "1"))


def first_segments() -> tuple[list[str], NDArray[np.int16]]:
    paths = sorted(SAMPLES.glob("*.wav"))
    return [path.stem for path in paths], np.stack([windows(load_clip(path))[0] for path in paths])


def test_the_file_fits_into_a_repository() -> None:
    assert STARTER.stat().st_size <= 25e6


def test_two_processes_at_once_leave_one_whole_version_and_nothing_beside_it(cache: Path) -> None:
    base = ensure_starter(cache)
    assert [path.name for path in base.iterdir()] == ["1"]
    assert {path.name for path in (base / "1").iterdir()} >= {"saved_model.pb", "variables", "assets.extra"}
    assert [path.name for path in (cache / "models").iterdir()] == [base.parent.name]


def test_its_card_says_what_it_comes_from_and_under_which_licence(cache: Path) -> None:
    card = (ensure_starter(cache) / "1" / CARD_FILE).read_text(encoding="utf-8")
    assert ["# The starter model" in card, "CC BY-NC 3.0" in card] == [True, True]


def test_it_says_which_recordings_it_knows(cache: Path) -> None:
    version = ensure_starter(cache) / "1"
    assert len(recordings_seen(version) or ()) == 332 + 60  # of UrbanSound8K, and the noises
    assert (recordings_seen(version) or frozenset()) & (sounds_heard(version) or frozenset())


def test_what_is_in_the_cache_is_not_made_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(file: Path, base: Path) -> Path:
        raise AssertionError(f"expanded {file} into {base} again")

    monkeypatch.setattr(serving.starter, "expand", never)
    assert (ensure_starter(cache) / "1").is_dir()
    with pytest.raises(AssertionError, match="again"):
        ensure_starter(cache / "another")


def test_a_process_of_its_own_expands_it_so_that_no_keras_stays_in_memory(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EARSHOT_CACHE", str(tmp_path))
    code = (
        "import sys; from serving.starter import ensure_starter_aside; print(ensure_starter_aside()); "
        "sys.exit(bool({'keras', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")
    version = ensure_starter(cache) / "1"
    own = Path(done.stdout.strip()) / "1"
    assert own.relative_to(tmp_path) == version.relative_to(cache)
    assert sorted(path.name for path in own.iterdir()) == sorted(path.name for path in version.iterdir())


@pytest.mark.parametrize(("end", "words"), [("kill -9 $$", "ended by SIGKILL"), ("exit 7", "exit status 7")])
def test_a_process_that_fails_to_expand_it_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, words: str
) -> None:
    (tmp_path / "python").write_text(f"#!/bin/sh\n{end}\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setenv("EARSHOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(CannotExpand, match=words):
        ensure_starter_aside()


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_missing_or_broken_file_is_named_and_leaves_no_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    file = tmp_path / "starter.npz"
    if damage == "cut":
        file.write_bytes(STARTER.read_bytes()[:100_000])
    monkeypatch.setattr(serving.starter, "STARTER", file)
    with pytest.raises(InvalidModelFile, match=r"starter\.npz"):
        ensure_starter(tmp_path / "cache")
    assert not list(tmp_path.glob("cache/**/1"))
    with pytest.raises(typer.Exit) as ended:
        main(tmp_path / "own")
    assert ended.value.exit_code == 2
    assert "starter.npz" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["full disk", "file"])
def test_a_folder_that_cannot_hold_it_is_named(tmp_path: Path, what: str) -> None:
    into = tmp_path / "models"
    if what == "file":
        into.touch()

    def no_space() -> None:
        if what == "full disk":
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    command = [sys.executable, "-m", "serving.starter", "--into", str(into)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, preexec_fn=no_space)
    assert done.returncode == 2
    assert str(into) in done.stderr
    assert ("is the disk full?" if what == "full disk" else "--into") in done.stderr
    assert "Traceback" not in done.stderr
    assert into.is_file() or not list(into.iterdir())


def test_a_folder_that_has_version_1_is_left_alone(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ensure_starter(cache)
    before = (base / "1" / "saved_model.pb").stat().st_mtime_ns
    main(base)
    assert "is there already" in capsys.readouterr().out
    assert (base / "1" / "saved_model.pb").stat().st_mtime_ns == before


def test_sample_clips_that_it_names_right_are_those_that_the_card_counts(loaded: Any) -> None:
    truths, segments = first_segments()
    images = np.stack([spectrogram(segment) for segment in segments])
    answer = loaded.signatures["serving_default"](spectrogram=tf.constant(images))
    names = [name.decode() for name in answer["classes"].numpy()[0]]
    heard = [names[best] for best in answer["scores"].numpy().argmax(axis=1)]
    assert {truth for truth, label in zip(truths, heard, strict=True) if truth == label} == HEARD_RIGHT
    assert set(truths) <= set(names)


def noises() -> dict[str, NDArray[np.floating]]:
    """Segments in which there is nothing to name, float [48,000] of -1 to 1."""
    rng = np.random.default_rng(0)
    white = rng.normal(size=48_000)
    seconds = np.arange(48_000) / 16_000
    return {
        "silence": np.zeros(48_000),
        "a muted device": rng.integers(-1, 2, 48_000) / 32_768,
        "white noise": 0.1 * white,
        "faint hiss": 0.001 * white,
        "pink noise": 0.1 * coloured(rng, 1.0)[:48_000],
        "the hum of 50 Hz": 0.05 * np.sum([np.sin(2 * np.pi * 50 * k * seconds) / k for k in range(1, 8)], axis=0),
    }


def test_silence_and_noises_are_nothing_that_it_knows(loaded: Any) -> None:
    sounds = noises()
    pcm = np.stack([np.clip(32_768 * each, -32_768, 32_767).astype(np.int16) for each in sounds.values()])
    answer = loaded.signatures["pcm"](pcm=tf.constant(pcm))
    names = [name.decode() for name in answer["classes"].numpy()[0]]
    heard = [names[best] for best in answer["scores"].numpy().argmax(axis=1)]
    assert dict(zip(sounds, heard, strict=True)) == dict.fromkeys(sounds, UNKNOWN)


def test_both_signatures_agree(loaded: Any) -> None:
    _, segments = first_segments()
    images = np.stack([spectrogram(segment) for segment in segments])
    from_image = loaded.signatures["serving_default"](spectrogram=tf.constant(images))["scores"].numpy()
    from_pcm = loaded.signatures["pcm"](pcm=tf.constant(segments))["scores"].numpy()
    # A pixel on a rounding edge may differ by one step.
    np.testing.assert_allclose(from_pcm, from_image, atol=5e-3)
    np.testing.assert_allclose(from_image.sum(axis=1), 1.0, rtol=1e-4)


def test_it_is_run_in_8_bits_and_names_the_sample_clips_as_in_float32(loaded: Any, cache: Path, tmp_path: Path) -> None:
    _, segments = first_segments()
    wanted = loaded.signatures["pcm"](pcm=tf.constant(segments))["scores"].numpy()
    engine = OpenVinoEngine(ensure_starter(cache) / "1", Precision.INT8, tmp_path)
    scores = engine.run("pcm", {"pcm": segments}, ["scores"])["scores"]
    np.testing.assert_array_equal(scores.argmax(axis=1), wanted.argmax(axis=1))
    assert 1e-4 < np.abs(scores - wanted).max() < 0.2
