"""Segments of real sound for the tests."""

from __future__ import annotations

import uuid
import wave
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from earshot.audio import fit_segment, level_dbfs
from earshot.segments import Segment

SAMPLES = sorted(Path(__file__).parents[2].joinpath("samples").glob("*.wav"))


def sample(number: int) -> np.ndarray:
    """int16 [48000] of one of the clips in samples/."""
    with wave.open(str(SAMPLES[number % len(SAMPLES)])) as clip:
        return fit_segment(np.frombuffer(clip.readframes(clip.getnframes()), dtype="<i2"))


def segment(number: int = 0, *, device_id: str = "porch") -> Segment:
    """A segment of a real clip, with an id of its own."""
    pcm = sample(number)
    return Segment(
        segment_id=str(uuid.uuid4()),
        device_id=device_id,
        sequence=number,
        start=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC) + timedelta(seconds=3 * number),
        trigger="energy",
        level_dbfs=level_dbfs(pcm),
        pcm=pcm,
    )
