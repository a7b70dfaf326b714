"""The recipe that trains a network further, or its upper blocks, from the head that the other trains on it as it is.

The recordings of the training clips are dealt into parts, and before the network that is published, which learns from
all of them, one is trained without each part: from the same weights, or from others that were taught like these but
without some of the recordings. What they say of recordings that they have not heard tells how sure the scores may be,
below which they are not believed, and how good the recipe is, without a test fold; and, where training may end early,
after how many epochs; what several are asked about counts for each of them. So thresholds are a little kind there, as
the epochs were chosen by the same clips. No figure of a report but `inner_accuracy` is of these. The network of all
recordings then takes a whole schedule of so many epochs, where those without a part were stopped in a longer one.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
from rich.progress import track

from earshot.labels import UNKNOWN
from earshot.logs import get_log
from serving.network import build_network
from training.data.background import background_class, no_more_background
from training.data.hearing import judged_windows
from training.data.windows import write_windows
from training.finetuning.finetune import Examples, Schedule, finetune
from training.heads.balance import balanced
from training.heads.calibration import Calibration, calibrate, cooled, of_classes
from training.heads.parts import LEAST_CALIBRATING, calibrators, parts_of
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

PARTS = 4
"""That the recordings are dealt into, at the most."""
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

        frozen: trains the head that fine-tuning begins with, on the network as it is before; its siblings those of the
        networks that calibrate, if it has any. steps: batches that each training takes, to a whole epoch; 0 is as many
        as the schedule's epochs have.
        """
        self.architecture = frozen.architecture
        most = "at most " if schedule.patience else ""
        length = f"{steps} steps, to a whole epoch" if steps else f"{schedule.epochs} epochs"
        which = f"blocks above {schedule.freeze}" if schedule.freeze else "all blocks"
        self.about = f"{which} fine-tuned for {most}{length} at a rate of {schedule.rate:g}"
        self._steps = steps
        self._frozen, self._schedule, self._precision, self._seed = frozen, schedule, precision, seed
        self._folder = folder
        self._kept: list[Path] = []
        self._windows = write_windows(frozen.clips, folder)
        self.clips = tuple(self._windows.rows)
        self.unreadable = frozen.unreadable + self._windows.unreadable
        self.heard, self.calibrated_by = frozen.heard, frozen.calibrated_by

    def train(self, clips: Sequence[Clip], class_names: Sequence[str]) -> Trained:
        """A network trained on `clips`, calibrated by others that were trained without a part of them each."""
        classes, sources = np.array([class_names.index(clip.label) for clip in clips]), [clip.source for clip in clips]
        frozen = self._frozen
        asked, notes = calibrators(clips, (frozen, frozen.heard), [(one, one.heard) for one in frozen.siblings])
        named = np.array([clip.label != UNKNOWN for clip in clips])
        parts = parts_of(classes, sources, PARTS, self._seed)
        trials = [
            (f"without part {part} of {len(parts)}, from {begun.weights.name}", begun, learnt, kept_out[mask[kept_out]])
            for begun, mask in asked
            for part, (learnt, kept_out) in enumerate(parts, start=1)
            if (mask & named)[kept_out].any()
        ]
        answered = [clips[number] for *_, kept_out in trials for number in kept_out]
        recordings = len({clip.source for clip in answered if clip.label != UNKNOWN})
        notes = [*frozen.weights.notes, *notes]
        if recordings < LEAST_CALIBRATING:
            log.warning("scores are not calibrated: there are too few recordings", recordings=recordings)
            tuned = self._tuned(frozen, clips, np.arange(len(clips)), None, class_names, "fine-tuning")
            as_it_is = Calibration.none(recordings, len(class_names))
            return _trained(tuned, as_it_is, {}, tuned.history, notes)
        said: list[NDArray[np.float32]] = []
        asked_about: list[Examples] = []
        best: list[int] = []
        histories: list[tuple[dict[str, float], ...]] = []
        for title, begun, learnt, kept_out in trials:
            unseen = self._examples([clips[row] for row in kept_out], class_names)
            tuned = self._tuned(begun, clips, learnt, unseen, class_names, f"fine-tuning {title}")
            said.append(self._answer(tuned, tuned.head, [row for own in unseen.groups for row in own]))
            asked_about.append(unseen)
            best.append(tuned.best or len(tuned.history))
            histories.append(tuned.history)
        answered_for = [len(one.groups) for one in asked_about]
        epochs = round(float(np.average(best, weights=answered_for))) if self._schedule.patience else 0
        chosen: dict[str, float] = {"epochs": epochs} if epochs else {}
        tuned = self._tuned(frozen, clips, np.arange(len(clips)), None, class_names, "fine-tuning", epochs)
        history = _with_validation(tuned.history, histories)
        logits = np.log(np.maximum(np.concatenate(said), np.finfo(np.float32).tiny))
        windows = np.array([len(own) for one in asked_about for own in one.groups])
        targets = np.repeat(np.concatenate([one.classes for one in asked_about]), windows)
        sources = np.repeat([source for one in asked_about for source in one.sources], windows).tolist()
        weights = np.repeat(1 / windows, windows)  # a clip counts as one
        counts = balanced(weights, targets, len(class_names)) if self._schedule.balance else weights
        background = background_class(class_names)
        calibration = calibrate(logits, targets, counts, sources, background=background, precision=self._precision)
        decides = of_classes(targets, background)
        right = (logits.argmax(axis=1) == targets)[decides]
        chosen["inner_accuracy"] = round(float(np.average(right, weights=weights[decides])), 4)
        return _trained(tuned, calibration, chosen, history, notes, histories)

    def _tuned(
        self,
        begun: FrozenRecipe,
        clips: Sequence[Clip],
        learnt: NDArray[np.int64],
        unseen: Examples | None,
        class_names: Sequence[str],
        title: str,
        epochs: int = 0,
    ) -> Learnt:
        """A network trained on those of `clips` that are `learnt` from, validated on what is `unseen`.

        begun: trains the head that it begins with, on the weights that it begins with. epochs: 0 are as many as the
        schedule's, or as the steps call for.
        """
        rows = self._windows.rows
        examples = self._examples([clips[number] for number in learnt], class_names)
        asked = (
            math.ceil(self._steps / self._schedule.steps(len(examples.groups)))
            if self._steps
            else self._schedule.epochs
        )
        schedule = replace(self._schedule, epochs=min(epochs or asked, asked))
        chosen_by = [[one.weights.digest, sorted(one.heard)] for one in (begun, *begun.siblings)]
        about = [
            *(chosen_by, self._windows.digest, self.architecture.to_json(), asdict(schedule)),
            *(self._seed, learnt.tolist(), [[one.label, one.source, rows[one].trained] for one in clips]),
        ]
        self._kept.append(self._folder / hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16])
        return finetune(
            examples,
            unseen,
            len(class_names),
            lambda: begun.train([clips[number] for number in learnt], class_names).head,
            self.architecture,
            begun.weights.blocks,
            schedule,
            self._seed,
            self._kept[-1],
            title,
        )

    def _examples(self, clips: Sequence[Clip], class_names: Sequence[str]) -> Examples:
        """Windows of `clips` and their classes; of background each window that is learnt from is a clip."""
        rows = self._windows.rows
        counts = {clip: rows[clip].roles.whole if clip.label == UNKNOWN else 1 for clip in clips}
        groups: list[tuple[int, ...]] = []
        classes: list[int] = []
        sources: list[str] = []
        for clip, chosen in no_more_background(counts, self._seed).items():
            own = [(rows[clip].start + row,) for row in chosen] if clip.label == UNKNOWN else [rows[clip].trained]
            groups += own
            classes += [class_names.index(clip.label)] * len(own)
            sources += [clip.source] * len(own)
        noises = tuple(row for clip in clips if clip.label == UNKNOWN for row in rows[clip].trained)
        return Examples(self._windows.images, tuple(groups), np.array(classes, dtype=np.int64), noises, tuple(sources))

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
            [
                np.asarray(network.predict_on_batch(self._windows.images[part].astype(np.float32)))
                for part in track(parts, "answers")
            ]
        )


def _trained(
    tuned: Learnt,
    calibration: Calibration,
    chosen: dict[str, float],
    history: tuple[dict[str, float], ...],
    notes: Sequence[str],
    trials: Sequence[Sequence[dict[str, float]]] = (),
) -> Trained:
    """A fine-tuned network with calibrated scores; `trials` are the histories of the others, by which it is."""
    loss = max(one[-1]["loss"] for one in (tuned.history, *trials))
    guessing = math.log(tuned.head.classes)
    diverged = (
        f"Fine-tuning did not converge: the loss ended at {loss:.3g}, and guessing gives {guessing:.3g}. Learn at a "
        "lower rate, or for longer."
    )
    return Trained(
        tuned.blocks,
        cooled(tuned.head, calibration.temperature),
        calibration.temperature,
        calibration.thresholds,
        chosen,
        history,
        (*notes, *calibration.notes, *([diverged] if loss > guessing else [])),
    )


def _with_validation(
    history: Sequence[dict[str, float]], trials: Sequence[Sequence[dict[str, float]]]
) -> tuple[dict[str, float], ...]:
    """Each epoch of `history`, with the means of what the trials that came so far say of their validation."""
    merged = []
    for number, own in enumerate(history):
        others = [trial[number] for trial in trials if number < len(trial)]
        names = [name for name in (others[0] if others else {}) if name.startswith("val_")]
        merged.append(own | {name: float(np.mean([other[name] for other in others])) for name in names})
    return tuple(merged)
