"""An audio teacher: a network that was trained on far more sounds than there are here, and says what it hears in any.

It is an ONNX file whose one input is sound, float32 [batch, samples] at 16 kHz, -1 to 1, and whose first output is a
row of numbers for each, as logits of sound classes or an embedding. What it says needs no labels, so a network can
learn from it by any sound (Hinton, Vinyals and Dean 2015).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from earshot.audio import FULL_SCALE, SEGMENT_SAMPLES

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


class TeacherError(ValueError):
    """A file is no teacher; the message says why."""


class Teacher:
    """A teacher from a file."""

    def __init__(self, path: Path) -> None:
        """Raises TeacherError where it is not what this module says."""
        try:
            self.digest = hashlib.sha256(path.read_bytes()).hexdigest()
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1  # sounds are heard side by side instead
            options.log_severity_level = 3
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            (self._input,) = self._session.get_inputs()
            self._answer = self._session.get_outputs()[0].name
            heard = self.answers(np.zeros((1, SEGMENT_SAMPLES), dtype=np.int16))
        except OSError as error:
            raise TeacherError(f"cannot read {path} ({error.strerror})") from error
        except Exception as error:  # onnxruntime has many types of its own, and none that they share
            raise TeacherError(f"{path} is no ONNX network that takes sound [batch, samples]: {error}") from error
        if heard.ndim != 2 or len(heard) != 1 or not np.isfinite(heard).all():
            raise TeacherError(f"{path} answers {list(heard.shape)} for one sound, not a row of numbers")
        self.outputs: int = heard.shape[1]
        """Numbers that it says of a sound."""

    def answers(self, pcm: NDArray[np.int16]) -> NDArray[np.float32]:
        """What it says of each of `pcm` int16 [batch, samples]: float32 [batch, outputs]; threads may call it."""
        sound: Any = pcm.astype(np.float32) / np.float32(FULL_SCALE)
        (answers,) = self._session.run([self._answer], {self._input.name: sound})
        return np.asarray(answers, dtype=np.float32)
