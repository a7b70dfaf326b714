"""Where sound comes from: a microphone or a recording, both as frames of 30 ms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from producers.microphone import MicrophoneSource
from producers.recordings import RecordingSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["MicrophoneSource", "RecordingSource", "Source"]


class Source(Protocol):
    """One stream of sound."""

    @property
    def live(self) -> bool:
        """Whether it is heard as it sounds, so that the host's clock tells its time; a recording has its own."""

    @property
    def lost_samples(self) -> int:
        """Samples of the stream, at 16 kHz, that were lost before the frame that was given last."""

    def __iter__(self) -> Iterator[NDArray[np.int16]]:
        """Frames, int16 [480], until the stream ends; each stream is heard once."""

    def stop(self) -> None:
        """End the stream soon; safe to call from another thread and from a signal handler."""
