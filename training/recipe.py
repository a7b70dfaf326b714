"""What a way of training a model must offer to the retraining job, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from serving.network import Architecture, ConvBlock, Head
    from training.data.clips import Clip


class NotConverged(RuntimeError):
    """Training came to values that are no numbers; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A model, and what training chose for it on its own clips."""

    blocks: tuple[ConvBlock, ...]
    head: Head
    """Its scores are calibrated."""
    temperature: float
    """What its logits were divided by."""
    thresholds: tuple[float, ...]
    """Score of each class below which it is not believed."""
    chosen: dict[str, float]
    """What else was chosen, by name."""
    history: tuple[dict[str, float], ...] = ()
    """Of each epoch, where there are epochs: `epoch` and losses."""
    notes: tuple[str, ...] = ()
    """What whoever reads its figures should know."""


class Recipe(Protocol):
    """A way of training, with the clips that it was made for."""

    architecture: Architecture
    about: str
    """What it trains, in a few words for the card."""
    clips: tuple[Clip, ...]
    """Those that can be read."""
    unreadable: tuple[str, ...]
    """A line for each that cannot."""
    heard: frozenset[str]
    """Recordings (`Clip.source`) of these that the network was taught by before, without their labels."""
    calibrated_by: tuple[str, ...]
    """Names of the other weights that calibrate it, if there are any."""

    def train(self, clips: Sequence[Clip], class_names: Sequence[str]) -> Trained:
        """A model trained on `clips` and no others; each is of a class of `class_names`."""
        ...

    def scores(self, trained: Trained, clips: Iterable[Clip]) -> dict[Clip, NDArray[Any]]:
        """Scores of the windows of each clip that a model is judged by, float32 [windows, classes]."""
        ...

    def done(self) -> None:
        """All models are trained and published: remove what was only kept for a run that is killed."""
        ...
