from __future__ import annotations

import math
import resource
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from earshot.audio import FULL_SCALE, level_dbfs, pcm16
from producers.frames import FRAME_S, FRAME_SAMPLES
from producers.recordings import RecordingSource, RecordingUnreadable
from tests.producers.sounds import noise

SAMPLES = Path(__file__).parents[2] / "samples"


def heard(path: Path) -> np.ndarray:
    frames = list(RecordingSource(path, speed=0))
    assert all(frame.shape == (FRAME_SAMPLES,) and frame.dtype == np.int16 for frame in frames)
    return np.concatenate(frames)


def sine(rate_hz: int, seconds: float) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(rate_hz * seconds)) / rate_hz)


def test_a_16_khz_recording_is_heard_sample_for_sample_and_its_last_frame_padded() -> None:
    pcm, _ = soundfile.read(SAMPLES / "dog_bark.wav", dtype="int16")
    samples = heard(SAMPLES / "dog_bark.wav")
    assert samples.size == math.ceil(pcm.size / FRAME_SAMPLES) * FRAME_SAMPLES
    assert np.array_equal(samples[: pcm.size], pcm)
    assert not samples[pcm.size :].any()


@pytest.mark.parametrize(
    ("name", "rate_hz", "subtype"),
    [
        ("8khz.wav", 8_000, "PCM_16"),
        ("48khz_float.wav", 48_000, "FLOAT"),
        ("96khz_double.wav", 96_000, "DOUBLE"),
        ("unsigned8.wav", 16_000, "PCM_U8"),
        ("mulaw.wav", 8_000, "ULAW"),
        ("24bit.flac", 44_100, "PCM_24"),
        ("vorbis.ogg", 44_100, "VORBIS"),
        ("lame.mp3", 44_100, "MPEG_LAYER_III"),
    ],
)
def test_any_format_and_rate_is_heard_at_its_length_and_level(
    tmp_path: Path, name: str, rate_hz: int, subtype: str
) -> None:
    soundfile.write(tmp_path / name, sine(rate_hz, 2.0), rate_hz, subtype=subtype)
    samples = heard(tmp_path / name)
    assert abs(samples.size - 32_000) < 16_000 * 0.1  # MP3 pads its ends
    assert level_dbfs(samples[4_000:28_000]) == pytest.approx(-9.03, abs=0.3)


@pytest.mark.parametrize("name", ["blocks.mp3", "blocks.ogg", "blocks.flac"])
def test_reading_in_blocks_gives_what_reading_at_once_gives(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / name, 0.5 * sine(16_000, 3.0), 16_000)
    at_once, _ = soundfile.read(tmp_path / name, dtype="float32")
    difference = heard(tmp_path / name)[: at_once.size].astype(int) - pcm16(at_once)
    assert np.abs(difference).max() <= 1  # an MP3 that is read at once is seeked in once, and rounds otherwise


def test_stereo_is_mixed_down(tmp_path: Path) -> None:
    left = np.full(4800, 0.5)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, -0.5 * left], axis=1), 16_000)
    assert set(heard(tmp_path / "stereo.wav")) == {round(0.125 * FULL_SCALE)}


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 48_000])
def test_a_single_sample_is_one_frame(tmp_path: Path, rate_hz: int) -> None:
    soundfile.write(tmp_path / "one.wav", np.array([0.5]), rate_hz)
    assert heard(tmp_path / "one.wav").size == FRAME_SAMPLES


def test_nan_is_silence(tmp_path: Path) -> None:
    sound = sine(48_000, 1.0)
    sound[::7] = np.nan
    soundfile.write(tmp_path / "nan.wav", sound, 48_000, subtype="FLOAT")
    assert level_dbfs(heard(tmp_path / "nan.wav")) > -20.0
    soundfile.write(tmp_path / "all_nan.wav", np.full(48_000, np.nan), 48_000, subtype="FLOAT")
    assert not heard(tmp_path / "all_nan.wav").any()


def write_truncated_flac(path: Path) -> None:
    soundfile.write(path, noise(5.0, -20.0), 16_000)
    path.write_bytes(path.read_bytes()[:20_000])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("nothing.wav", b"", "empty file"),
        ("text.wav", b"this is no sound" * 100, "cannot be read"),
        ("header.wav", b"RIFF\x24\x00\x00\x00WAVE", "cannot be read"),
        ("noise.mp3", bytes(range(256)) * 40, "cannot be read"),
    ],
)
def test_a_file_that_is_no_sound_is_named(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordingUnreadable, match=says) as caught:
        heard(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_recording_of_no_samples_is_empty(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "empty.wav", np.empty(0), 16_000)
    with pytest.raises(RecordingUnreadable, match=r"empty\.wav holds no sound, it is empty"):
        heard(tmp_path / "empty.wav")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingUnreadable, match=r"absent\.wav cannot be read"):
        heard(tmp_path / "absent.wav")


def test_a_recording_damaged_half_way_is_heard_up_to_there_and_then_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.flac"
    write_truncated_flac(path)
    frames: list[np.ndarray] = []
    with pytest.raises(RecordingUnreadable, match=r"cut\.flac"):
        frames.extend(iter(RecordingSource(path, speed=0)))


def test_a_long_recording_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    seconds, rate_hz = 600, 48_000
    with soundfile.SoundFile(path, "w", rate_hz, 2, "PCM_16") as file:
        for _ in range(seconds):
            file.write(np.zeros((rate_hz, 2), dtype=np.int16))
    assert path.stat().st_size > 110e6
    list(zip(range(10), RecordingSource(path, speed=0), strict=False))  # what it loads, it loads before this
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    frames = sum(1 for _ in RecordingSource(path, speed=0))
    assert frames == seconds / FRAME_S
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 30_000


@pytest.mark.parametrize("speed", [1.0, 4.0])
def test_frames_never_come_before_a_microphone_would_have_given_them(speed: float) -> None:
    start_s = time.monotonic()
    for number, _ in enumerate(RecordingSource(SAMPLES / "car_horn.wav", speed=speed), start=1):
        assert time.monotonic() - start_s >= number * FRAME_S / speed


def test_a_speed_below_nothing_is_refused() -> None:
    for speed in (-1.0, math.nan):
        with pytest.raises(ValueError, match="speed"):
            RecordingSource(SAMPLES / "siren.wav", speed=speed)


@pytest.mark.parametrize("speed", [0.0, math.inf])
def test_no_pace_gives_the_same_frames(speed: float) -> None:
    pcm, _ = soundfile.read(SAMPLES / "siren.wav", dtype="int16")
    samples = np.concatenate(list(RecordingSource(SAMPLES / "siren.wav", speed=speed)))
    assert np.array_equal(samples[: pcm.size], pcm)


def test_a_stopped_recording_ends() -> None:
    source = RecordingSource(SAMPLES / "street_music.wav", speed=1e-6)  # its first frame would take hours
    source.stop()
    assert list(source) == []


def test_a_header_whose_sample_rate_no_recorder_has_is_named(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "damaged.wav", sine(16_000, 1.0), 16_000)
    header = bytearray((tmp_path / "damaged.wav").read_bytes())
    header[24:28] = (2_000_000_000).to_bytes(4, "little")  # where a WAV has its sample rate
    (tmp_path / "damaged.wav").write_bytes(header)
    with pytest.raises(RecordingUnreadable, match=r"damaged\.wav .*2000000000 Hz"):
        heard(tmp_path / "damaged.wav")
