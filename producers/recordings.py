"""Recordings as a source of sound: a file is heard as a microphone would have heard it, at the same pace."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from producers.frames import FRAME_S, FRAME_SAMPLES, Framer
from producers.resampler import Resampler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3"})
"""Names of recordings end in one of these, in any case."""
BLOCK_S = 0.5
"""Seconds of a file that are in memory at a time; what is before a damaged block is heard."""
BLOCK_VALUES = 1 << 20
"""The most values that these may be, over all channels: 4 MB."""
HIGHEST_RATE_HZ = 768_000
"""The highest sample rate of any recorder; a header that says more is damaged."""
LONGEST_SLEEP_S = 0.2
"""However slowly a recording is replayed, it hears `stop()` this soon."""


class RecordingUnreadable(RuntimeError):
    """A file holds no sound that can be read; the message names the file and says what is wrong with it."""


class RecordingSource:
    """The sound of one WAV, FLAC, OGG or MP3 file, of any sample rate, sample type and number of channels.

    Frames come in real time, `speed` times faster with a `speed` above 1, and as fast as they can be read where it is
    0 or infinite. The last frame is padded with zeros. The file is read as it is replayed, never as a whole.
    """

    live = False
    lost_samples = 0

    def __init__(self, path: Path | str, speed: float = 1.0) -> None:
        if math.isnan(speed) or speed < 0:
            raise ValueError(f"speed is {speed}, it must be 0 (as fast as possible) or above")
        self.path = Path(path)
        self._frame_s = FRAME_S / speed if speed else 0.0
        self._stopped = False

    def stop(self) -> None:
        """End the stream before its next frame."""
        self._stopped = True

    def __iter__(self) -> Iterator[NDArray[np.int16]]:
        """Frames, int16 [480]. Raises RecordingUnreadable, at once or where the file turns out to be damaged."""
        start_s = time.monotonic()
        for number, frame in enumerate(self._frames(), start=1):
            self._wait_until(start_s + number * self._frame_s)
            if self._stopped:
                return
            yield frame

    def _wait_until(self, due_s: float) -> None:
        """A microphone gives a frame when its last sample has been heard; so does this."""
        while not self._stopped and (left_s := due_s - time.monotonic()) > 0:
            time.sleep(min(left_s, LONGEST_SLEEP_S))

    def _frames(self) -> Iterator[NDArray[np.int16]]:
        framer = Framer()
        heard = False
        for samples in self._samples():
            for frame in framer.push(samples):
                heard = True
                yield frame
        for frame in framer.flush():
            heard = True
            yield frame
        if not heard:  # a sample or two at a high rate are less than one at 16 kHz
            yield np.zeros(FRAME_SAMPLES, dtype=np.int16)

    def _samples(self) -> Iterator[NDArray[np.int16]]:
        """The recording's samples at 16 kHz, int16 [n], block by block."""
        import soundfile

        try:
            if self.path.is_file() and not self.path.stat().st_size:
                raise RecordingUnreadable(f"{self.path} holds no sound, it is an empty file")
            with soundfile.SoundFile(self.path) as file:
                # soundfile seeks to where it is after each read, from which libsndfile's MP3 decoder takes damage:
                # half of all samples were wrong (soundfile 0.14).
                file.seekable = lambda: False
                if file.samplerate > HIGHEST_RATE_HZ:
                    raise ValueError(f"a sample rate of {file.samplerate} Hz")
                resampler = Resampler(file.samplerate)
                block_frames = max(min(int(BLOCK_S * file.samplerate), BLOCK_VALUES // file.channels), 1)
                read = 0
                while (block := file.read(block_frames, dtype="float32", always_2d=True)).size:
                    read += len(block)
                    yield resampler.push(block)
                if not read:
                    raise RecordingUnreadable(f"{self.path} holds no sound, it is empty")
                yield resampler.push(np.empty((0, 1), dtype=np.float32), last=True)
        except (soundfile.SoundFileError, OSError, ValueError) as error:
            raise RecordingUnreadable(f"{self.path} cannot be read as sound: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What libsndfile says, without the path that the message has already, and without a full stop."""
    return str(getattr(error, "error_string", "") or error).rstrip(".")
