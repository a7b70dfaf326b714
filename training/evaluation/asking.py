"""Asks a model about clips, as a worker asks it about segments."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from training.data.ahead import ahead
from training.data.datasets import DataError
from training.data.hearing import THREADS, each_heard, hear, judged_windows
from training.evaluation.answers import Answers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from rich.console import Console

    from training.data.clips import Clip
    from training.data.hearing import Heard, Window
    from training.evaluation.judged import Judged


def _asked(clip: Clip, heard: Heard) -> Sequence[Window]:
    return heard.back_to_back[: judged_windows(clip, len(heard.back_to_back), heard.whole)]


class NoClipReadable(DataError):
    """There is no clip among those named that a model could be asked about."""


def ask(
    model: Judged,
    clips: Sequence[Clip],
    batch: int,
    console: Console,
    *,
    title: str = "clips",
    windows_each: int | None = None,
) -> tuple[Answers, list[str]]:
    """What the model answers to the windows of every clip that can be read, and a line for each that cannot.

    title: of the progress bar. windows_each: the most windows of a clip that it is asked about, the first ones; None
    are all. What is in memory is a few clips, and their windows of one batch. Raises NoClipReadable or PredictError.
    """
    unreadable: list[str] = []
    scores: dict[Clip, list[NDArray[np.float32]]] = {}
    heard = each_heard(clips, lambda clip: hear(clip.path), unreadable, title, console=console)
    sounds = ((clip, window) for clip, one in heard for window in _asked(clip, one)[:windows_each])
    with ThreadPoolExecutor(THREADS) as pool:
        images = ahead(pool, sounds, lambda item: item[1]())
        while some := list(islice(images, batch)):
            answered = model.scores(np.stack([image for _, image in some]))
            for ((clip, _), _), row in zip(some, answered, strict=True):
                scores.setdefault(clip, []).append(row)
    if not scores:
        raise NoClipReadable(f"none of {len(clips)} clips can be read{f': {unreadable[0]}' if unreadable else ''}")
    whole = {clip: np.stack(each) for clip, each in scores.items()}
    return Answers.of(whole, model.class_names, model.thresholds), unreadable
