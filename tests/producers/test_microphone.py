"""The real microphone path: PulseAudio plays into a null sink, PortAudio records it, segments come out."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyaudio
import pytest
import soundfile

from earshot.audio import SAMPLE_RATE_HZ, level_dbfs
from producers.devices import MicrophoneLost, NoMicrophone, list_devices
from producers.gate import Gate
from producers.microphone import MicrophoneSource
from producers.segmenter import Segmenter
from producers.settings import AgentSettings
from tests.producers.sounds import silence, tone
from tests.producers.test_segmenter import STARTED
from tests.pulse import NO_ALSA, Pulse, pulse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.integration

SAMPLES = Path(__file__).parents[2] / "samples"
PATIENCE_S = 60.0


class Listener:
    """Records a source in a thread; a context manager that ends with the source stopped."""

    def __init__(self, source: MicrophoneSource) -> None:
        self.source = source
        self.frames: list[np.ndarray] = []
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.source.stop()
        self.join()

    @property
    def samples(self) -> np.ndarray:
        return np.concatenate([*self.frames, np.empty(0, dtype=np.int16)])

    def join(self) -> None:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def hears(self, more_frames: int) -> None:
        """Wait for so many more frames."""
        least = len(self.frames) + more_frames
        wait_for(lambda: len(self.frames) >= least or self.error is not None)
        assert self.error is None

    def _listen(self) -> None:
        try:
            for frame in self.source:
                self.frames.append(frame)
        except Exception as error:
            self.error = error


def wait_for(condition: Callable[[], bool]) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.02)


def hear(server: Pulse, environment: pytest.MonkeyPatch) -> None:
    for name, value in server.environment.items():
        environment.setenv(name, value)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pulse]:
    with pulse() as server:
        hear(server, monkeypatch)
        yield server


def played(server: Pulse, folder: Path, sound: np.ndarray) -> np.ndarray:
    """What a microphone records while `sound` is played; the sink wakes up in the silence before it."""
    soundfile.write(folder / "played.wav", np.concatenate([silence(0.5), sound]), SAMPLE_RATE_HZ)
    with Listener(MicrophoneSource(AgentSettings.read())) as listener:
        listener.hears(10)
        server.play(folder / "played.wav")
        listener.hears(35)
    assert listener.source.lost_samples == 0
    return listener.samples


def found(sound: np.ndarray, recorded: np.ndarray) -> int:
    """Where in `recorded` the sound is, by correlation."""
    size = 1 << (recorded.size + sound.size).bit_length()
    spectrum = np.fft.rfft(recorded.astype(float), size) * np.conj(np.fft.rfft(sound.astype(float), size))
    return int(np.fft.irfft(spectrum, size).argmax())


def test_what_is_played_is_recorded_sample_for_sample_and_cut_into_segments(server: Pulse, tmp_path: Path) -> None:
    siren, _ = soundfile.read(SAMPLES / "siren.wav", dtype="int16")
    recorded = played(server, tmp_path, siren)
    first = found(siren, recorded)
    assert np.array_equal(recorded[first : first + siren.size], siren)

    gate, segmenter = Gate(), Segmenter("mic", STARTED)
    pushed = [segmenter.push(frame, gate.update(frame)) for frame in recorded.reshape(-1, 480)]
    segments = [segment for segment in [*pushed, segmenter.flush()] if segment is not None]
    assert len(segments) == 2
    assert (segments[0].trigger == "continued", segments[1].trigger) == (False, "continued")
    joined = np.concatenate([segment.pcm for segment in segments])
    first = found(siren, joined)
    assert 0 < first <= SAMPLE_RATE_HZ
    assert np.array_equal(joined[first : first + siren.size], siren)


def test_a_card_without_16_khz_and_mono_is_recorded_as_it_is_and_resampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PulseAudio converts for everyone, so only PortAudio's answer of what the card can do is made up here."""
    ask = pyaudio.PyAudio.is_format_supported

    def only_native(self: pyaudio.PyAudio, rate: int, **options: Any) -> Any:
        if rate == SAMPLE_RATE_HZ or options["input_channels"] == 1:
            raise ValueError("Invalid sample rate")
        return ask(self, rate, **options)

    monkeypatch.setattr(pyaudio.PyAudio, "is_format_supported", only_native)
    with pulse(rate_hz=44_100, channels=2) as server:
        hear(server, monkeypatch)
        sound = tone(2.0, -12.0, hz=440.0)
        recorded = played(server, tmp_path, sound)
    first = found(sound, recorded)
    heard = recorded[first + 4_000 : first + 28_000]
    assert level_dbfs(heard) == pytest.approx(-12.0, abs=0.2)
    assert np.fft.rfftfreq(heard.size, 1 / SAMPLE_RATE_HZ)[np.abs(np.fft.rfft(heard)).argmax()] == pytest.approx(440)


def test_devices_are_listed_with_their_rate_and_the_default(server: Pulse) -> None:
    (device,) = list_devices()
    assert device.name == "default"
    assert device.default
    assert device.native_rate_hz > 0
    assert device.channels >= 1


def test_a_microphone_that_comes_back_is_heard_again_and_the_gap_is_counted(server: Pulse) -> None:
    with Listener(MicrophoneSource(AgentSettings.read({"microphone_wait_s": PATIENCE_S}))) as listener:
        listener.hears(10)
        server.stop()
        wait_for(lambda: stalled(listener))
        server.start()
        listener.hears(10)
    assert listener.error is None
    assert listener.source.lost_samples >= 0.5 * SAMPLE_RATE_HZ


def stalled(listener: Listener) -> bool:
    count = len(listener.frames)
    time.sleep(0.5)
    return len(listener.frames) == count


def test_a_microphone_that_stays_away_is_lost(server: Pulse) -> None:
    with Listener(MicrophoneSource(AgentSettings.read({"microphone_wait_s": 1.0}))) as listener:
        listener.hears(10)
        server.stop()
        listener.join()
    assert isinstance(listener.error, MicrophoneLost)
    assert "gone for" in str(listener.error)


def test_a_stopped_microphone_ends_and_is_let_go(server: Pulse) -> None:
    for _ in range(3):
        with Listener(MicrophoneSource(AgentSettings.read())) as listener:
            listener.hears(5)
        assert listener.error is None


def test_without_a_microphone_the_message_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "asound.conf").write_text(NO_ALSA)
    monkeypatch.setenv("ALSA_CONFIG_PATH", str(tmp_path / "asound.conf"))
    assert list_devices() == []
    with pytest.raises(NoMicrophone, match="plug one in"):
        MicrophoneSource(AgentSettings.read())
