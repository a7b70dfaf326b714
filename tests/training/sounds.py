"""Sound files for tests that look at files, not at what is heard in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import soundfile

if TYPE_CHECKING:
    from pathlib import Path


def tone(path: Path, seconds: float = 1.0, rate_hz: int = 16_000, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate_hz)) / rate_hz)
    soundfile.write(path, np.stack([wave] * channels, axis=1), rate_hz)
    return path
