"""The activity gate: says of each frame whether something can be heard, so that silence is never sent.

Two detectors, and by default either may open the gate:

- webrtcvad, made for speech, reacts to most sounds, but misses sirens and other steady tones;
- the energy gate hears whatever rises above the background, but takes what goes on for long to be the background.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from earshot.audio import SAMPLE_RATE_HZ, level_dbfs
from producers.frames import FRAME_S

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from producers.settings import GateKind

Heard = Literal["vad", "energy", "vad+energy"]

VAD_VOTES, VAD_WINDOW = 3, 5
"""Frames that webrtcvad must call voiced: a gun shot fills few, so a share of all frames would miss it."""
ENERGY_VOTES, ENERGY_WINDOW = 2, 3
FLOOR_FALL_S = 0.5
"""Time constant, seconds, in which the noise floor falls to a quieter background."""
FLOOR_RISE_DB_S = 0.5
"""Decibels a second by which it rises at most: a sound 30 dB above it is background after most of a minute."""


@dataclass(frozen=True, slots=True)
class Activity:
    """What the gate makes of one frame."""

    active: bool
    trigger: Heard | None
    """Which detectors hear something; None where the frame is not active."""
    level_dbfs: float
    """Root-mean-square level of the frame, decibels relative to full scale."""


class VadDetector:
    """webrtcvad, with 3 of the last 5 frames voiced."""

    def __init__(self, mode: int) -> None:
        import webrtcvad

        self._vad = webrtcvad.Vad(mode)
        self._votes: deque[bool] = deque(maxlen=VAD_WINDOW)

    def hears(self, frame: NDArray[np.int16], *, audible: bool) -> bool:
        """Whether `frame` (int16 [480]) and those before it are voiced; an inaudible one never is."""
        self._votes.append(bool(self._vad.is_speech(frame.tobytes(), SAMPLE_RATE_HZ)) and audible)
        return sum(self._votes) >= VAD_VOTES


class EnergyDetector:
    """Level above an adaptive noise floor, in 2 of the last 3 frames."""

    def __init__(self, margin_db: float, floor_dbfs: float) -> None:
        self._margin_db = margin_db
        self._votes: deque[bool] = deque(maxlen=ENERGY_WINDOW)
        self.floor_dbfs = floor_dbfs
        """Level of the background, as far as it is known; a stored value spares a restarted agent the learning."""

    def hears(self, level: float, *, audible: bool) -> bool:
        """Whether a frame of `level` dBFS, and those before it, stand out; the floor learns from it afterwards."""
        self._votes.append(level >= self.floor_dbfs + self._margin_db and audible)
        difference_db = level - self.floor_dbfs
        if difference_db < 0:
            self.floor_dbfs += difference_db * FRAME_S / FLOOR_FALL_S
        else:
            self.floor_dbfs += min(difference_db, FLOOR_RISE_DB_S * FRAME_S)
        return sum(self._votes) >= ENERGY_VOTES


class Gate:
    """One stream's gate; a new stream needs a new one."""

    def __init__(
        self,
        kind: GateKind = "either",
        *,
        vad_mode: int = 3,
        margin_db: float = 8.0,
        floor_dbfs: float = -70.0,
        least_dbfs: float = -60.0,
    ) -> None:
        """Frames quieter than `least_dbfs` never count, whichever detector is asked."""
        self._vad = VadDetector(vad_mode) if kind != "energy" else None
        self._energy = EnergyDetector(margin_db, floor_dbfs) if kind != "vad" else None
        self._least_dbfs = least_dbfs

    def update(self, frame: NDArray[np.int16]) -> Activity:
        """What the gate makes of the next `frame` (int16 [480])."""
        level = level_dbfs(frame)
        audible = level >= self._least_dbfs
        voiced = self._vad is not None and self._vad.hears(frame, audible=audible)
        loud = self._energy is not None and self._energy.hears(level, audible=audible)
        trigger: Heard | None = None
        if voiced:
            trigger = "vad+energy" if loud else "vad"
        elif loud:
            trigger = "energy"
        return Activity(trigger is not None, trigger, level)
