"""Asks a model about clips, as a worker asks it about segments."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from rich.progress import track

from earshot.audio import windows
from earshot.logs import get_log
from earshot.spectrogram import spectrogram
from training.ahead import ahead
from training.answers import Answers
from training.clips import Clip, ClipUnreadable, load_clip
from training.datasets import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from rich.console import Console

    from training.judged import Judged

log = get_log(__name__)

THREADS = 2
"""Clips that are decoded at once."""


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
    """The model's scores for the windows of every clip that can be read, and a line for each that cannot.

    title: of the progress bar. windows_each: the most windows of a clip that it is asked about, the first ones; None
    are all. What is in memory is a few clips, and their windows of one batch. Raises NoClipReadable or PredictError.
    """
    unreadable: list[str] = []
    scores: dict[Clip, list[NDArray[np.float32]]] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        loaded = track(ahead(pool, clips, _load), title, total=len(clips), console=console)
        sounds = _windows(loaded, unreadable, windows_each)
        heard = ahead(pool, sounds, lambda item: spectrogram(item[1]))
        while some := list(islice(heard, batch)):
            answered = model.scores(np.stack([image for _, image in some]))
            for ((clip, _), _), row in zip(some, answered, strict=True):
                scores.setdefault(clip, []).append(row)
    if not scores:
        raise NoClipReadable(f"none of {len(clips)} clips can be read: {unreadable[0]}")
    return Answers.of({clip: np.stack(each) for clip, each in scores.items()}, model.class_names), unreadable


def _windows(
    loaded: Iterable[tuple[Clip, NDArray[np.int16] | ClipUnreadable]], unreadable: list[str], most: int | None
) -> Iterator[tuple[Clip, NDArray[np.int16]]]:
    """Each clip with each of its windows; a line is added to `unreadable` for a clip that has none."""
    for clip, pcm in loaded:
        if isinstance(pcm, ClipUnreadable):
            log.warning("clip skipped", reason=str(pcm))
            unreadable.append(str(pcm))
        else:
            yield from ((clip, window) for window in windows(pcm)[:most])


def _load(clip: Clip) -> NDArray[np.int16] | ClipUnreadable:
    try:
        return load_clip(clip.path)
    except ClipUnreadable as error:
        return error
