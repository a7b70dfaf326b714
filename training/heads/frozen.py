"""The recipe for a CPU: the network stays as it is, only a head on its features is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from training.data.background import no_more_background
from training.data.hearing import judged_windows
from training.heads.bottlenecks import Bottlenecks
from training.heads.head import train_head
from training.recipe import Trained
from training.teaching.heard import heard_recordings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from serving.network import Architecture
    from training.data.clips import Clip
    from training.weights import Weights


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
    ) -> None:
        """Compute the features of all `clips`, or read those that are in `folder`."""
        self.architecture, self.weights = architecture, weights
        self._precision, self._steps = precision, steps
        self._balance, self._seed = balance, seed
        self._features, unreadable = Bottlenecks(weights, architecture, folder, batch).of(clips)
        self.clips, self.unreadable = tuple(self._features), tuple(unreadable)
        self.heard = heard_recordings(weights.heard, self.clips)

    def train(self, clips: Sequence[Clip], class_names: Sequence[str]) -> Trained:
        """A head trained on the windows of `clips`; of background on no more than of all else."""
        rows, targets, groups = [], [], []
        counts = {clip: len(self._features[clip].roles.trained) for clip in clips}
        for clip, windows in no_more_background(counts, self._seed).items():
            own = self._features[clip].trained[windows]
            rows += list(own)
            targets += [class_names.index(clip.label)] * len(own)
            groups += [clip.source] * len(own)
        with threadpool_limits(1):  # two take twice as long, and tens of times where other programs want the cores
            head = train_head(
                np.stack(rows),
                np.array(targets),
                groups,
                len(class_names),
                self._seed,
                self._precision,
                self._steps,
                self._balance,
                self.architecture.widths,
            )
        return Trained(
            self.weights.blocks,
            head.head,
            head.temperature,
            head.thresholds,
            {"strength": head.strength, "inner_accuracy": round(head.accuracy, 4)},
            notes=self.weights.notes,
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
