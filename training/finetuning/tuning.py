"""The recipe that trains the whole network further, from the head that the other recipe trains on it as it is.

Some recordings of the training clips are kept out of it. They tell after each epoch how far learning has come, by which
it may end early, and in the end temperature and thresholds. One part serves both: a second one would take more
recordings from learning, or halve the few there are, and an epoch is a choice among a few dozen that differ little.
What it costs is that thresholds are a little kind, for the epoch was chosen to do well on the same clips. No figure of
a report is of these.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import warnings
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import softmax
from sklearn.model_selection import StratifiedGroupKFold

from earshot.labels import UNKNOWN
from earshot.logs import get_log
from serving.network import build_network
from training.data.background import no_more_background
from training.data.hearing import judged_windows
from training.data.windows import write_windows
from training.finetuning.finetune import Examples, Schedule, finetune
from training.heads.calibration import choose_thresholds, cooled, fit_temperature
from training.heads.head import LEAST_LEARNT
from training.recipe import Trained

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from serving.network import Head
    from training.data.clips import Clip
    from training.finetuning.learner import Learnt
    from training.heads.frozen import FrozenRecipe

log = get_log(__name__)

KEPT_OUT_PARTS = 8
"""One part of so many of the recordings is not trained on, but tells when to end, temperature and thresholds."""
LEAST_CALIBRATING = 10
"""Recordings that are kept out below which temperature and thresholds would be chance: then there are none."""
_BATCH = 64


class TuningRecipe:
    """Fine-tuning (a `Recipe`)."""

    def __init__(
        self,
        frozen: FrozenRecipe,
        schedule: Schedule,
        *,
        folder: Path,
        precision: float,
        steps: int,
        seed: int,
    ) -> None:
        """Cut the clips of `frozen` into windows; what each training has reached is kept in `folder`.

        frozen: trains the head that fine-tuning begins with, on the network as it is before. steps: batches that each
        training takes, to a whole epoch; 0 is as many as the schedule's epochs have.
        """
        self.architecture = frozen.architecture
        most = "at most " if schedule.patience else ""
        self.about = (
            f"all blocks fine-tuned for {most}"
            f"{f'{steps} steps, to a whole epoch' if steps else f'{schedule.epochs} epochs'}"
        )
        self._steps = steps
        self._frozen, self._schedule, self._precision, self._seed = frozen, schedule, precision, seed
        self._folder = folder
        self._kept: list[Path] = []
        self._windows = write_windows(frozen.clips, folder)
        self.clips = tuple(self._windows.rows)
        self.unreadable = frozen.unreadable + self._windows.unreadable

    def train(self, clips: Sequence[Clip], class_names: Sequence[str]) -> Trained:
        """A network trained on `clips`, but for those that are kept out."""
        classes = np.array([class_names.index(clip.label) for clip in clips])
        learnt, kept_out = _parts(classes, [clip.source for clip in clips], self._seed)
        rows = self._windows.rows
        groups, labels = self._groups([clips[number] for number in learnt], class_names)
        noises = [row for number in learnt if clips[number].label == UNKNOWN for row in rows[clips[number]].trained]
        examples = Examples(self._windows.images, tuple(groups), labels, tuple(noises))
        kept, truths = self._groups([clips[number] for number in kept_out], class_names)
        validation = Examples(self._windows.images, tuple(kept), truths) if kept else None
        schedule = self._schedule
        if self._steps:
            schedule = replace(schedule, epochs=math.ceil(self._steps / schedule.steps(len(groups))))
        about = [
            *(self._frozen.weights.digest, self._windows.digest, self.architecture.to_json(), asdict(schedule)),
            *(self._seed, [[one.label, one.source, rows[one].trained] for one in clips]),
        ]
        self._kept.append(self._folder / hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16])
        start = self._frozen.train([clips[number] for number in learnt], class_names)
        tuned = finetune(
            examples,
            validation,
            start.head,
            self.architecture,
            self._frozen.weights.blocks,
            schedule,
            self._seed,
            self._kept[-1],
        )
        recordings = len({clips[number].source for number in kept_out})
        if recordings >= LEAST_CALIBRATING:
            return self._calibrated(tuned, kept, truths)
        log.warning("scores are not calibrated: too few recordings were kept out", recordings=recordings)
        note = f"Scores are not calibrated, and have no thresholds: {recordings} recordings were kept out for it."
        thresholds = (0.0,) * tuned.head.classes
        return Trained(tuned.blocks, tuned.head, 1.0, thresholds, _chosen(tuned), tuned.history, (note,))

    def _groups(
        self, clips: Sequence[Clip], class_names: Sequence[str]
    ) -> tuple[list[tuple[int, ...]], NDArray[np.int64]]:
        """Rows of each clip's windows, and its class; of background each window that is learnt from is a clip."""
        rows = self._windows.rows
        counts = {clip: rows[clip].roles.whole if clip.label == UNKNOWN else 1 for clip in clips}
        groups: list[tuple[int, ...]] = []
        classes: list[int] = []
        for clip, chosen in no_more_background(counts, self._seed).items():
            own = [(rows[clip].start + row,) for row in chosen] if clip.label == UNKNOWN else [rows[clip].trained]
            groups += own
            classes += [class_names.index(clip.label)] * len(own)
        return groups, np.array(classes, dtype=np.int64)

    def _calibrated(self, tuned: Learnt, groups: list[tuple[int, ...]], classes: NDArray[np.int64]) -> Trained:
        scores = self._answer(tuned, tuned.head, [row for own in groups for row in own])
        logits = np.log(np.maximum(scores, np.finfo(np.float32).tiny))
        targets = np.repeat(classes, [len(own) for own in groups])
        temperature = fit_temperature(logits, targets)
        thresholds = choose_thresholds(softmax(logits / temperature, axis=1), targets, self._precision)
        head = cooled(tuned.head, temperature)
        return Trained(tuned.blocks, head, temperature, thresholds, _chosen(tuned), tuned.history)

    def scores(self, trained: Trained, clips: Iterable[Clip]) -> dict[Clip, NDArray[np.float32]]:
        """Scores of each clip's windows."""
        clips = list(clips)
        if not clips:
            return {}
        windows = [(clip, self._windows.rows[clip]) for clip in clips]
        rows = [one.heard[: judged_windows(clip, one.roles.heard, one.roles.whole)] for clip, one in windows]
        scores = self._answer(trained, trained.head, [row for own in rows for row in own])
        ends = np.cumsum([len(own) for own in rows])
        return dict(zip(clips, np.split(scores, ends[:-1]), strict=True))

    def done(self) -> None:
        """The models are published: what was kept for going on is removed."""
        for folder in self._kept:
            shutil.rmtree(folder, ignore_errors=True)

    def _answer(self, model: Learnt | Trained, head: Head, rows: list[int]) -> NDArray[np.float32]:
        network = build_network(self.architecture, model.blocks, head)
        parts = [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
        return np.concatenate(
            [np.asarray(network.predict_on_batch(self._windows.images[part].astype(np.float32))) for part in parts]
        )


def _chosen(tuned: Learnt) -> dict[str, float]:
    return {"best_epoch": tuned.best} if tuned.best else {}


def _parts(
    classes: NDArray[np.int64], sources: Sequence[str], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which clips are learnt from and which calibrate, by their recordings; each class is learnt from.

    None calibrate where too few recordings would be left to train a head on.
    """
    everything = np.arange(len(classes))
    recordings: dict[int, set[str]] = {}
    for number, source in zip(classes.tolist(), sources, strict=True):
        recordings.setdefault(number, set()).add(source)
    count = min(KEPT_OUT_PARTS, max(len(own) for own in recordings.values()))
    if count < 2:
        return everything, everything[:0]
    split = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # that a class has fewer clips than parts
        learnt, kept_out = next(split.split(classes, classes, sources))
    needed = {sources[number] for number in kept_out[~np.isin(classes[kept_out], classes[learnt])]}
    calibrates = np.isin(everything, kept_out) & ~np.isin(sources, list(needed))
    if len(set(np.array(sources)[~calibrates])) < LEAST_LEARNT:
        return everything, everything[:0]
    return everything[~calibrates], everything[calibrates]
