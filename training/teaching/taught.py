"""What a network is taught by a teacher: images of many views of sounds, and what the teacher says of each view.

Views and answers are made once, and kept on disk until learning is over: a run that was killed goes on with the same,
and where it was while it made them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from rich.progress import track
from scipy.special import logit

from earshot.spectrogram import DEFAULT_PARAMS, spectrogram
from training.data.ahead import ahead
from training.data.datasets import DataError
from training.data.hearing import THREADS
from training.data.windows import StoredImages
from training.finetuning.augment import Augmentation, augment
from training.teaching.views import Mixing, make_view
from training.weights import digest_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from earshot.spectrogram import SpectrogramParams
    from serving.network import Head
    from training.finetuning.learner import Batch, Pace, Predict
    from training.teaching.pieces import Pieces
    from training.teaching.teacher import Teacher

AUGMENTATION = Augmentation(
    shift=0.06, pitch_bands=2, tilt=0.024, masks=1, mask_bands=0.1, mask_frames=0.12, noise=0.0, mixup=0.0
)
"""So little that what the teacher said of a view still holds."""
VIEWS = 2
"""Counts the ways in which views were made of the same: those of another way are not gone on with."""
VALIDATION = 0.02
"""Share of the recordings that no view which is learnt from is made of, and of the views that are made of these."""
MOST_VALIDATION = 500
"""Views that are made of these, at the most."""
_CHUNK = 64
_LEAST = 1e-7
"""Probability below which none is told from another."""
_FARTHEST = 6.0
"""Standard deviations beyond which an answer is not followed."""


@dataclass(frozen=True, slots=True)
class Views:
    """Images of views, and the teacher's answers."""

    images: StoredImages
    """[views, mels, frames, channels]"""
    answers: NDArray[np.float32]
    """[views, outputs]"""
    validation: int
    """So many, the first ones, are of pieces that the others do not know."""
    digest: str
    """Of all that decides them."""
    files: tuple[Path, ...]
    """That they are kept in."""

    def __len__(self) -> int:
        return len(self.answers)

    def remove(self) -> None:
        """Remove the files, and their folder if no other run keeps anything there."""
        for file in self.files:
            file.unlink(missing_ok=True)
        with suppress(OSError):
            self.files[0].parent.rmdir()


def write_views(
    pieces: Pieces, count: int, teacher: Teacher, seed: int, folder: Path, params: SpectrogramParams = DEFAULT_PARAMS
) -> Views:
    """`count` views of `pieces`; those that `folder` has are not made again.

    Raises DataError where the pieces are too few, or another run makes the same.
    """
    mixing = Mixing()
    about = [VIEWS, pieces.digest, count, teacher.digest, seed, asdict(mixing), params.to_json()]
    about += [VALIDATION, MOST_VALIDATION]
    digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()
    unheard, heard = _kept_out(pieces, seed)
    validation = min(max(1, round(VALIDATION * count)), MOST_VALIDATION)
    shape = (params.mels, params.frames(), params.channels)
    stored, said = folder / f"{digest[:16]}.images", folder / f"{digest[:16]}.answers"

    def made(numbers: range) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        pcm = []
        for number in numbers:
            kinds = unheard if number < validation else heard
            pcm.append(make_view(pieces, kinds, np.random.default_rng([seed, number]), mixing))
        return np.stack([spectrogram(one, params) for one in pcm]), teacher.answers(np.stack(pcm))

    folder.mkdir(parents=True, exist_ok=True)
    chunks = [range(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
    with stored.open("ab") as images, said.open("ab") as answers, ThreadPoolExecutor(THREADS) as pool:
        try:
            fcntl.flock(images, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(
                f"another run makes these views in {folder}; wait for it, or name another --cache"
            ) from None
        sizes = [(images, math.prod(shape)), (answers, np.dtype(np.float32).itemsize * teacher.outputs)]
        there = min(os.fstat(file.fileno()).st_size // size for file, size in sizes)
        whole = len(chunks) if there >= count else there // _CHUNK
        for file, size in sizes:
            file.truncate(min(whole * _CHUNK, count) * size)  # a kill leaves half a chunk, or one in one file alone
        work = ahead(pool, chunks[whole:], made, THREADS)
        bar = track(work, "views", total=len(chunks), completed=whole, disable=whole == len(chunks))
        for _, (own_images, own_answers) in bar:
            images.write(own_images.data)
            answers.write(own_answers.data)
            for file, _ in sizes:
                file.flush()
    answers_of_all = np.fromfile(said, np.float32).reshape(count, teacher.outputs)
    return Views(StoredImages(stored.open("rb"), count, shape), answers_of_all, validation, digest, (stored, said))


def as_learnt(answers: NDArray[np.float32]) -> NDArray[np.float32]:
    """What is learnt of a teacher's answers [sounds, outputs]: the logits of probabilities; others as they are."""
    if answers.min() >= 0 and answers.max() <= 1:  # next to all of a probability's information is near 0
        return np.asarray(logit(answers.clip(_LEAST, 1 - _LEAST)), dtype=np.float32)
    return answers


def _kept_out(pieces: Pieces, seed: int) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """Numbers of the pieces of each kind that validation is made of, and of those that learning is.

    All pieces of a recording are on one side. A kind that is one recording is learnt from and not validated by.
    """
    rng = np.random.default_rng(seed)
    kinds = [pieces.kinds == kind for kind in np.unique(pieces.kinds)]
    kept_out = np.zeros(len(pieces), dtype=bool)
    for own in kinds:
        recordings = rng.permutation(np.unique(pieces.recordings[own]))
        count = min(max(1, round(VALIDATION * len(recordings))), len(recordings) - 1)
        kept_out |= np.isin(pieces.recordings, recordings[:count])  # of every kind: a recording may be in several
    unheard, heard = (
        [part for own in kinds if (part := np.flatnonzero(side & own)).size] for side in (kept_out, ~kept_out)
    )
    if not unheard or not heard:
        raise DataError("there are too few sounds to learn from some and be told by others; name more recordings")
    return unheard, heard


class Taught:
    """Views and a teacher's answers (a `Lesson`): each number that it says, as far as it differs between sounds."""

    def __init__(
        self,
        views: Views,
        pace: Pace,
        seed: int,
        readout: Head | None = None,
        params: SpectrogramParams = DEFAULT_PARAMS,
    ) -> None:
        """Learn all but the views for validation; `readout`, learnt before, goes on if its outputs are as many."""
        self.outputs = views.answers.shape[1]
        self.readout = readout if readout and readout.classes == self.outputs else None
        self.loss = keras.losses.MeanSquaredError()
        self.examples = len(views) - views.validation
        self.decided_by: dict[str, Any] = {
            "views": views.digest,
            "augmentation": asdict(AUGMENTATION),
            "start": digest_of((), b"", *self.readout.layers[0]) if self.readout else None,
        }
        self._views, self._batch, self._seed, self._params = views, pace.batch, seed, params
        answers = as_learnt(views.answers)
        learnt = answers[views.validation :]
        spread = learnt.std(axis=0) + np.float32(1e-6)
        self._targets = ((answers - learnt.mean(axis=0)) / spread).clip(-_FARTHEST, _FARTHEST).astype(np.float32)

    def start(self) -> Head | None:
        """The layer that said the teacher's answers before, if it was of as many."""
        return self.readout

    def batch(self, epoch: int, step: int) -> Batch:
        """Views, a little augmented."""
        order = np.random.default_rng([self._seed, epoch]).permutation(self.examples) + self._views.validation
        rows = np.sort(order[step * self._batch : (step + 1) * self._batch])
        rng = np.random.default_rng([self._seed, epoch, step])
        images, targets = augment(self._views.images[rows], self._targets[rows], AUGMENTATION, rng, params=self._params)
        return images, targets, None

    def validated(self, predict: Predict) -> dict[str, float]:
        """`val_loss`, the share of the teacher's variance that the network does not account for, on views of its own.

        What it is on average over all of the teacher's numbers, on sounds that are not learnt from.
        """
        count = self._views.validation
        told = predict(self._views.images, range(count))
        return {"val_loss": float(np.mean((told - self._targets[:count]) ** 2))}
