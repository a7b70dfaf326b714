"""A microphone as a source of sound, through PortAudio.

PortAudio's own thread puts what it records into a bounded queue, from which the frames are taken; so a hiccup further
on costs nothing, and a longer one costs sound that is counted, never memory without bound.
"""

from __future__ import annotations

import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from earshot.audio import FULL_SCALE, SAMPLE_RATE_HZ
from earshot.logs import get_log
from producers import metrics
from producers.devices import (
    MicrophoneError,
    MicrophoneLost,
    NoMicrophone,
    find_device,
    found_again_by,
    port_audio,
    quiet_stderr,
)
from producers.devices import recording_devices as devices_of
from producers.frames import Framer
from producers.resampler import Resampler
from producers.sampleclock import SampleClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from producers.devices import Device
    from producers.settings import AgentSettings

log = get_log(__name__)

BLOCK_S = 0.03
"""Seconds that PortAudio hands over at a time."""
QUEUE_BLOCKS = 334
"""Blocks that wait to be heard at most: ten seconds."""
SILENT_S = 5.0
"""A microphone that gives nothing for so long is gone; a quiet room gives zeros, not nothing."""
POLL_S = 0.1
REOPEN_EVERY_S = 1.0


class _Block(NamedTuple):
    """What PortAudio's thread hands over."""

    pcm: bytes
    lost: int
    """Samples, at the device's rate, that were lost before it."""


class MicrophoneSource:
    """The sound of one microphone, until `stop()`.

    Raises NoMicrophone when it is made where there is none that fits, and MicrophoneLost from the iteration where the
    microphone vanishes and cannot be opened again for `microphone_wait_s` seconds.
    """

    live = True

    def __init__(self, settings: AgentSettings) -> None:
        self._wait_s = settings.microphone_wait_s
        self._stopped = False
        self.lost_samples = 0
        with port_audio() as audio:
            devices = devices_of(audio)
        self.device = find_device(devices, settings.device)
        named = settings.device and not settings.device.isdecimal()
        # Without it, the default or the index would be another microphone's.
        self._wanted = settings.device if named else found_again_by(self.device, devices)

    def stop(self) -> None:
        """End the stream within a tenth of a second."""
        self._stopped = True

    def __iter__(self) -> Iterator[NDArray[np.int16]]:
        """Frames, int16 [480]."""
        heard_s = time.monotonic()
        problem: Exception | None = None
        while True:
            try:
                with port_audio() as audio, _Recorder(audio, find_device(devices_of(audio), self._wanted)) as recorder:
                    log.info("listening", device=recorder.device.name, rate_hz=recorder.rate_hz)
                    for frame in self._frames(recorder, lost_s=time.monotonic() - heard_s if problem else 0.0):
                        heard_s, problem = time.monotonic(), None
                        yield frame
            except NoMicrophone as error:
                problem = error
            except OSError as error:  # PortAudio's errors
                problem = MicrophoneError(f"PortAudio says: {error}")
            else:
                problem = MicrophoneError("it stopped giving sound")
            if self._stopped:
                return
            if time.monotonic() - heard_s > self._wait_s:
                raise MicrophoneLost(
                    f"the microphone {self.device.name!r} is gone for {self._wait_s:g} s ({problem}); "
                    "is it plugged in, and does the sound server run?"
                )
            log.warning("microphone lost, opening it again", device=self.device.name, reason=str(problem))
            self._pause(REOPEN_EVERY_S)

    def _frames(self, recorder: _Recorder, lost_s: float) -> Iterator[NDArray[np.int16]]:
        """Frames until the recorder runs dry; `lost_s` seconds of the stream were missed before it."""
        self.lost_samples += round(lost_s * SAMPLE_RATE_HZ)
        resampler, framer = Resampler(recorder.rate_hz), Framer()
        while not self._stopped and (block := recorder.read()) is not None:
            self.lost_samples += round(block.lost * SAMPLE_RATE_HZ / recorder.rate_hz)
            pcm = np.frombuffer(block.pcm, dtype="<i2").reshape(-1, recorder.channels)
            yield from framer.push(resampler.push(pcm.astype(np.float32) / np.float32(FULL_SCALE)))

    def _pause(self, seconds: float) -> None:
        until_s = time.monotonic() + seconds
        while not self._stopped and time.monotonic() < until_s:
            time.sleep(POLL_S)


class _Recorder:
    """One open PortAudio stream."""

    def __init__(self, audio: Any, device: Device) -> None:
        import pyaudio

        self.device = device
        self.rate_hz, self.channels = _format(audio, device)
        self._blocks: SimpleQueue[_Block] = SimpleQueue()
        self._lost = 0  # samples, since the last block in the queue
        self._clock = SampleClock(self.rate_hz)
        self._continue = pyaudio.paContinue
        self._overflow = pyaudio.paInputOverflow
        with quiet_stderr():
            self._stream = audio.open(
                rate=self.rate_hz,
                channels=self.channels,
                format=pyaudio.paInt16,
                input=True,
                input_device_index=device.index,
                frames_per_buffer=round(BLOCK_S * self.rate_hz),
                stream_callback=self._take,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with quiet_stderr():
            self._stream.close()

    def read(self) -> _Block | None:
        """The next block; None where the microphone has stopped giving any, or gives none for a moment too long."""
        until_s = time.monotonic() + SILENT_S
        while time.monotonic() < until_s:
            try:
                return self._blocks.get(timeout=POLL_S)
            except Empty:
                if not self._stream.is_active():
                    return None
        return None

    def _take(self, pcm: bytes, samples: int, _time: object, status: int) -> tuple[None, int]:
        """Called on PortAudio's thread with each block."""
        if status & self._overflow:
            metrics.OVERFLOWS.labels("portaudio").inc()
        self._lost += self._clock.missing(time.monotonic(), samples)
        if self._blocks.qsize() >= QUEUE_BLOCKS:
            metrics.OVERFLOWS.labels("queue").inc()
            self._lost += samples
        else:
            self._blocks.put(_Block(pcm, self._lost))
            self._lost = 0
        return None, self._continue


def _format(audio: Any, device: Device) -> tuple[int, int]:
    """Sample rate and channels to open `device` with: 16 kHz and mono where it can, else what it has itself."""
    import pyaudio

    for rate_hz in (SAMPLE_RATE_HZ, device.native_rate_hz):
        for channels in (1, min(device.channels, 2), device.channels):
            try:
                with quiet_stderr():
                    audio.is_format_supported(
                        rate_hz, input_device=device.index, input_channels=channels, input_format=pyaudio.paInt16
                    )
            except ValueError:
                continue
            return rate_hz, channels
    raise OSError(f"{device} records in no format that Earshot knows")
