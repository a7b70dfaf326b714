from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from serving.network import Architecture
from tests.training.sounds import tone
from training.data.clips import Clip, load_clip
from training.data.contents import digests
from training.data.hearing import hear
from training.heads.bottlenecks import HEARING, Bottlenecks
from training.weights import Weights, load_weights

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

ARCHITECTURE = Architecture(("mixed0",), bands=1)
FEATURES = 2 * 256
"""Mean and maximum of the 256 channels of mixed0."""


@pytest.fixture(scope="module")
def weights(weights_file: Path) -> Weights:
    return load_weights(str(weights_file))


@pytest.fixture
def clips(data: Path, tmp_path: Path) -> list[Clip]:
    """One of half a second, and one of seven seconds: one window and three, of which two are whole."""
    short, long = tmp_path / "short.wav", tmp_path / "long.wav"
    shutil.copy(data / "hum" / "hum-0.wav", short)
    soundfile.write(long, np.tile(load_clip(short), 14), 16_000)
    return [Clip(short, "hum", 1, "short"), Clip(long, "hum", 2, "long")]


def kept(cache: Path) -> list[Path]:
    return sorted(path for path in cache.rglob("*") if path.is_file())


def bottlenecks(weights: Weights, cache: Path, architecture: Architecture = ARCHITECTURE) -> Bottlenecks:
    return Bottlenecks(weights, architecture, cache, batch=2)


def test_every_window_and_one_after_silence_has_features_and_a_second_run_reads_them(
    weights: Weights, clips: list[Clip], tmp_path: Path
) -> None:
    features, unreadable = bottlenecks(weights, tmp_path / "cache").of(clips)
    assert unreadable == []
    assert [features[clip].heard.shape for clip in clips] == [(1, FEATURES), (3, FEATURES)]
    # The only window and the one after silence; two whole ones, the one after silence, and the last three seconds.
    assert [features[clip].trained.shape for clip in clips] == [(2, FEATURES), (4, FEATURES)]
    for clip, whole in zip(clips, (1, 2), strict=True):
        heard, trained = features[clip].heard, features[clip].trained
        np.testing.assert_array_equal(trained[:whole], heard[:whole])
        assert all(np.abs(heard - further).max(axis=1).min() > 0 for further in trained[whole:])
    files = kept(tmp_path / "cache")
    assert len(files) == len(clips)

    class NoNetwork(Bottlenecks):
        def _compute(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            raise AssertionError("what is in the cache was computed again")

    again, _ = NoNetwork(weights, ARCHITECTURE, tmp_path / "cache", batch=2).of(clips)
    for clip in clips:
        np.testing.assert_array_equal(again[clip].heard, features[clip].heard)
        np.testing.assert_array_equal(again[clip].trained, features[clip].trained)

    soundfile.write(clips[0].path, load_clip(clips[0].path)[:4_000], 16_000)
    with pytest.raises(AssertionError, match="again"):
        NoNetwork(weights, ARCHITECTURE, tmp_path / "cache", batch=2).of(clips)
    other = Architecture(("mixed0",), bands=2)
    with pytest.raises(AssertionError, match="again"):
        NoNetwork(weights, other, tmp_path / "cache", batch=2).of(clips[1:])


UNCLOSED = b"\x93NUMPY\x01\x00\x0a\x00(((((((((\n"
"""A header that Python cannot read."""


@pytest.mark.parametrize("left", [b"", b"\x93NUMPY\x01\x00v", b"PK\x03\x04" + bytes(100), UNCLOSED, None])
def test_what_a_power_cut_left_of_a_file_is_computed_again(
    weights: Weights, clips: list[Clip], tmp_path: Path, left: bytes | None
) -> None:
    work = bottlenecks(weights, tmp_path / "cache")
    before, _ = work.of(clips[:1])
    (path,) = kept(tmp_path / "cache")
    path.write_bytes(path.read_bytes()[:-100] if left is None else left)
    after, unreadable = work.of(clips[:1])
    assert unreadable == []
    np.testing.assert_array_equal(after[clips[0]].heard, before[clips[0]].heard)


def test_features_that_a_disk_changed_or_that_lie_under_anothers_name_are_computed_again(
    weights: Weights, clips: list[Clip], tmp_path: Path
) -> None:
    work = bottlenecks(weights, tmp_path / "cache")
    before, _ = work.of(clips)
    one, other = kept(tmp_path / "cache")
    damaged = bytearray(one.read_bytes())
    damaged[len(damaged) // 2] ^= 0x7F
    for left, right in ((bytes(damaged), other.read_bytes()), (other.read_bytes(), one.read_bytes())):
        one.write_bytes(left)
        other.write_bytes(right)
        after, _ = work.of(clips)
        for clip in clips:
            np.testing.assert_array_equal(after[clip].rows, before[clip].rows)


def test_features_of_clips_that_were_heard_otherwise_are_not_read(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = bottlenecks(weights, tmp_path)._path(b"content")
    monkeypatch.setattr("training.heads.bottlenecks.HEARING", HEARING + 1)
    assert bottlenecks(weights, tmp_path)._path(b"content") != before


def test_clips_without_sound_are_listed_the_rest_goes_on_and_half_a_file_is_not_read(
    weights: Weights, clips: list[Clip], tmp_path: Path
) -> None:
    corrupt = Clip(tmp_path / "corrupt.wav", "hum", 1, "corrupt")
    corrupt.path.write_bytes(b"no recording")
    work = bottlenecks(weights, tmp_path / "cache")
    (content,) = digests(clips[:1]).values()
    half = work._path(content).with_suffix(".npy.1234")  # what a run that was killed leaves, or another is writing
    half.parent.mkdir()
    half.write_bytes(b"half")
    gone = Clip(tmp_path / "gone.wav", "hum", 1, "gone")
    features, unreadable = work.of([corrupt, gone, clips[0]])
    assert list(features) == [clips[0]]
    assert len(unreadable) == 2
    assert "corrupt.wav" in unreadable[0]
    assert "gone.wav" in unreadable[1]
    assert sorted(path.suffix for path in kept(tmp_path / "cache")) == [".1234", ".npy"]


def test_what_was_heard_of_a_file_that_changed_meanwhile_is_not_kept(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = Clip(tone(tmp_path / "tone.wav"), "hum", 1, "tone")
    work = bottlenecks(weights, tmp_path / "cache")

    def changes(clip: Clip) -> Any:
        tone(clip.path, 4.0)
        return hear(clip.path).images(between=False)

    monkeypatch.setattr(work, "_images", changes)
    features, unreadable = work.of([clip, clip])
    assert (list(features), unreadable, kept(tmp_path / "cache")) == ([clip], [], [])
