"""Sounds for the agent's tests: tones, noise and silence, int16 at 16 kHz, and a gate's activity made by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from earshot.audio import SAMPLE_RATE_HZ, pcm16
from producers.frames import Framer
from producers.gate import Activity

if TYPE_CHECKING:
    from numpy.typing import NDArray

ACTIVE = Activity(active=True, trigger="vad", level_dbfs=-20.0)
QUIET = Activity(active=False, trigger=None, level_dbfs=-70.0)


def silence(seconds: float) -> NDArray[np.int16]:
    return np.zeros(round(seconds * SAMPLE_RATE_HZ), dtype=np.int16)


def noise(seconds: float, dbfs: float, seed: int = 0) -> NDArray[np.int16]:
    samples = np.random.default_rng(seed).normal(0.0, 10.0 ** (dbfs / 20.0), round(seconds * SAMPLE_RATE_HZ))
    return pcm16(samples)


def tone(seconds: float, dbfs: float, hz: float = 1000.0) -> NDArray[np.int16]:
    time_s = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return pcm16(np.sqrt(2.0) * 10.0 ** (dbfs / 20.0) * np.sin(2 * np.pi * hz * time_s))


def frames_of(samples: NDArray[np.int16]) -> list[NDArray[np.int16]]:
    framer = Framer()
    return [*framer.push(samples), *framer.flush()]
