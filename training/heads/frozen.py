"""The recipe for a CPU: the network stays as it is, only a head on its features is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np

from training.data.background import background_class, no_more_background
from training.data.heard import heard_recordings
from training.data.hearing import judged_windows
from training.heads.balance import clip_weights, recording_weights
from training.heads.bottlenecks import Bottlenecks
from training.heads.head import OutOfFold, cross_validated, train_head
from training.heads.parts import calibrators
from training.recipe import Trained

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from serving.network import Architecture
    from training.data.clips import Clip
    from training.weights import Weights


class _How(TypedDict):
    """How each head is trained."""

    steps: int
    balance: bool
    widths: Sequence[int]


class FrozenRecipe:
    """Logistic regression on bottleneck features (a `Recipe`)."""

    about = "logistic regression on frozen features"

    def __init__(
        self,
        clips: list[Clip],
        weights: Weights,
        architecture: Architecture,
        *,
        folder: Path,
        batch: int,
        precision: float,
        steps: int,
        balance: bool,
        seed: int,
        calibrating: Sequence[Weights] = (),
    ) -> None:
        """Compute the features of all `clips`, or read those that are in `folder`.

        calibrating: weights that were taught like `weights`, but without some of the recordings. By what heads on these
        say of those, strength, temperature and thresholds are chosen; without any, by what heads on `weights` say.
        """
        self.architecture, self.weights = architecture, weights
        self._precision, self._steps = precision, steps
        self._balance, self._seed = balance, seed
        self._features, unreadable = Bottlenecks(weights, architecture, folder, batch).of(clips)
        self.clips, self.unreadable = tuple(self._features), tuple(unreadable)
        self.heard = heard_recordings(weights.heard, self.clips)
        self.siblings = [
            FrozenRecipe(
                list(self.clips),
                one,
                architecture,
                folder=folder,
                batch=batch,
                precision=precision,
                steps=steps,
                balance=balance,
                seed=seed,
            )
            for one in calibrating
        ]
        """The same recipe on each of the calibrating weights."""
        self.calibrated_by = tuple(one.name for one in calibrating)

    def train(self, clips: Sequence[Clip], class_names: Sequence[str]) -> Trained:
        """A head trained on the windows of `clips`; of background on no more than of all else."""
        learnt = {clip: len(self._features[clip].roles.trained) for clip in clips}
        windows = no_more_background(learnt, self._seed)
        of_rows = [clip for clip, own in windows.items() for _ in own]
        targets = np.array([class_names.index(clip.label) for clip in of_rows])
        groups, classes = [clip.source for clip in of_rows], len(class_names)
        weights, counts = recording_weights(of_rows), clip_weights(of_rows)

        def rows(recipe: FrozenRecipe) -> NDArray[np.float32]:
            own = [recipe._features[clip].trained[chosen] for clip, chosen in windows.items()]
            return np.concatenate(own, dtype=np.float32)

        asked, notes = calibrators(of_rows, (self, self.heard), [(one, one.heard) for one in self.siblings])
        how: _How = {"steps": self._steps, "balance": self._balance, "widths": self.architecture.widths}
        said = [
            cross_validated(
                rows(recipe), targets, weights, groups, classes, seed=self._seed, asked=mask, counts=counts, **how
            )
            for recipe, mask in asked
        ]
        head = train_head(
            rows(self),
            targets,
            weights,
            classes,
            OutOfFold.together(said),
            precision=self._precision,
            background=background_class(class_names),
            **how,
        )
        chosen = {"strength": head.strength}
        if head.accuracy is not None:
            chosen["inner_accuracy"] = round(head.accuracy, 4)
        calibration = head.calibration
        notes = [*notes, *calibration.notes]
        if not head.converged:
            notes = [*notes, f"The head's solver was stopped after {self._steps} steps, before it came to its end."]
        return Trained(
            self.weights.blocks,
            head.head,
            calibration.temperature,
            calibration.thresholds,
            chosen,
            notes=(*self.weights.notes, *notes),
        )

    def scores(self, trained: Trained, clips: Iterable[Clip]) -> dict[Clip, NDArray[np.float32]]:
        """Scores of each clip's windows."""
        scores: dict[Clip, NDArray[np.float32]] = {}
        for clip in clips:
            features = self._features[clip]
            judged = judged_windows(clip, features.roles.heard, features.roles.whole)
            scores[clip] = trained.head.scores(features.heard[:judged])
        return scores

    def done(self) -> None:
        """Features stay for the next run."""
