"""Noises that are made: unlike one another, and those of one fold unlike those of the others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from rich.console import Console

from earshot.audio import SAMPLE_RATE_HZ, pcm16, windows
from earshot.labels import UNKNOWN
from training.data.background import is_generated
from training.data.clips import Clip, load_clip
from training.data.datasets import DataError, find_clips, thin_classes
from training.data.noises import KINDS, NOISE_S, Draw, coloured, hiss, hum, make_noises, silence
from training.evaluation.answers import Answers
from training.evaluation.metrics import judge
from training.retrain import retrain
from training.settings import RetrainSettings

if TYPE_CHECKING:
    from collections.abc import Callable


def draw(part: int, seed: int = 0) -> Draw:
    return Draw(np.random.default_rng(seed), part, 5)


def test_each_fold_draws_from_its_own_part_of_every_range() -> None:
    def parameters(part: int, seed: int) -> list[float]:
        one = draw(part, seed)
        return [one.between(10, 20) for _ in range(7)]

    drawn = np.array([[parameters(part, seed) for part in range(5)] for seed in range(50)])
    for parameter in range(7):
        low, high = drawn[:, :, parameter].min(axis=0), drawn[:, :, parameter].max(axis=0)
        order = np.argsort(low)
        assert (high[order][:-1] <= low[order][1:]).all()
        assert (low.min(), high.max()) == (pytest.approx(10, abs=0.2), pytest.approx(20, abs=0.2))
    assert (drawn[:, 0].max() - drawn[:, 0].min()) > 9  # what is low in one parameter is not in the next


@pytest.mark.parametrize(("slope", "falls_db"), [(0.0, 0.0), (1.0, 10.0), (2.0, 20.0)])
def test_the_power_of_a_colour_falls_as_it_says(slope: float, falls_db: float) -> None:
    power = np.abs(np.fft.rfft(coloured(np.random.default_rng(0), slope))) ** 2
    width_hz = SAMPLE_RATE_HZ / 2 / (len(power) - 1)
    near_200_hz, near_2_khz = (power[int(0.9 * hz / width_hz) : int(1.1 * hz / width_hz)].mean() for hz in (200, 2_000))
    assert 10 * np.log10(near_200_hz / near_2_khz) == pytest.approx(falls_db, abs=1.5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [0, 4])
def test_each_is_30_seconds_within_full_scale(kind: Callable[[Draw], np.ndarray], part: int) -> None:
    sound = kind(draw(part))
    assert sound.shape == (NOISE_S * SAMPLE_RATE_HZ,)
    assert np.isfinite(sound).all()
    assert 0 < np.abs(sound).max() <= 1


def test_silence_is_quieter_than_any_hiss_and_a_hum_is_of_the_mains() -> None:
    quiet = [20 * np.log10(silence(draw(part)).std()) for part in range(5)]
    loud = [20 * np.log10(hiss(draw(part)).std()) for part in range(5)]
    assert -85 < min(quiet) < max(quiet) < -60 < min(loud) < max(loud) < -10
    for part in range(5):
        whole = windows(pcm16(silence(draw(part))))  # the last three of ten are of a device that is muted
        assert [bool(window.any()) for window in whole] == [True] * 7 + [False] * 3
        spectrum = np.abs(np.fft.rfft(hum(draw(part))))
        bins_hz = 1 / NOISE_S
        low = [spectrum[round(hz / bins_hz)] for hz in np.arange(45, 65, bins_hz)]
        assert max(low) > 30 * np.median(low)


def test_noises_are_clips_of_no_class_dealt_to_kinds_and_folds(tmp_path: Path) -> None:
    clips = make_noises(16, [2, 7], 3, tmp_path)
    assert len({clip.source for clip in clips}) == len({clip.path for clip in clips}) == 16
    assert all(is_generated(clip) and clip.label == UNKNOWN for clip in clips)
    for fold in (2, 7):
        kinds = [clip.path.name.partition("-")[0] for clip in clips if clip.fold == fold]
        assert sorted(kinds) == sorted(2 * [kind.__name__ for kind in KINDS])
    before = {clip.path: clip.path.read_bytes() for clip in clips}
    assert len(set(before.values())) == 16
    written = {path: path.stat().st_mtime_ns for path in before}
    lost, kept, cut, empty = (clip.path for clip in clips[:4])
    lost.unlink()
    cut.write_bytes(cut.read_bytes()[:10_000])
    empty.write_bytes(b"")
    make_noises(16, [2, 7], 3, tmp_path)
    assert {path: path.read_bytes() for path in before} == before
    assert kept.stat().st_mtime_ns == written[kept], "what is there in full length is not made again"
    assert thin_classes(clips) == {}
    other = make_noises(16, [2, 7], 4, tmp_path)
    assert not {clip.path.read_bytes() for clip in other} & set(before.values())
    assert all(load_clip(clip.path).size == NOISE_S * SAMPLE_RATE_HZ for clip in clips)


def test_false_accepts_on_noises_are_told_apart_from_those_on_recordings(tmp_path: Path) -> None:
    names = ("dog", UNKNOWN)
    dog, nothing = [0.9, 0.1], [0.2, 0.8]
    (noise,) = make_noises(1, [1], 0, tmp_path)
    scores = {
        Clip(Path("a"), "dog", 1, "a"): np.array([dog], np.float32),
        Clip(Path("b"), UNKNOWN, 1, "background:b"): np.array([nothing, dog], np.float32),
        noise: np.array([nothing, nothing, dog, nothing], np.float32),
    }
    figures = judge(Answers.of(scores, names))
    assert figures["clips"] == 1
    assert (figures["background"]["segments"], figures["background"]["false_accepts"]) == (2, 1)
    assert figures["generated_background"]["segments"] == 4
    assert figures["generated_background"]["false_accepts_per_hour"] == 300.0
    alone = judge(Answers.of({clip: one for clip, one in scores.items() if clip != noise}, names))
    assert alone["generated_background"] is None


def test_a_model_that_learnt_noises_calls_those_of_an_unseen_fold_unknown(
    data: Path, weights_file: Path, tmp_path: Path
) -> None:
    own = {
        "data": str(data),
        "generated_background": 40,
        "weights": str(weights_file),
        "taps": "mixed0",
        "bands": 2,
        "cache": tmp_path / "cache",
        "evaluate": "1",
        "report": tmp_path / "report.json",
    }
    said = Console(record=True, width=200)
    report = retrain(RetrainSettings.read(own), said)
    assert UNKNOWN in report["class_names"]
    assert list((tmp_path / "cache").rglob("hum-0-*.wav"))
    with pytest.raises(DataError, match="holds no clips"):
        find_clips(tmp_path)  # a cache below the data is no class of it
    heard = report["folds"]["1"]["generated_background"]
    assert heard["recordings"] >= 4
    assert heard["false_accepts"] < heard["segments"] / 2
    assert report["folds"]["1"]["background"] is None
    assert "false/h, generated" in said.export_text()
