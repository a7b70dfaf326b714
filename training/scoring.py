"""What a served model answers to labelled clips: each clip's first three seconds, asked as a worker asks."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.progress import track

from earshot.audio import windows
from earshot.logs import get_log
from earshot.spectrogram import spectrogram
from processors.predictor import Prediction, Predictor
from training.clips import Clip, ClipUnreadable, load_clip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from rich.console import Console

log = get_log(__name__)

RETRY_BUDGET_S = 30.0
"""How long a server that was there may be away."""


class NoClipReadable(ValueError):
    """There is no clip among those named that a model could be asked about."""


@dataclass(frozen=True, slots=True)
class Scores:
    """A model's answers."""

    class_names: tuple[str, ...]
    clips: list[Clip]
    """Those that could be read."""
    values: NDArray[np.float32]
    """Of each clip's first segment, [clips, classes]."""

    def hits(self) -> NDArray[np.bool_]:
        """Which clips are named right, bool [clips]."""
        best = self.values.argmax(axis=1)
        return np.array([self.class_names[k] == clip.label for k, clip in zip(best, self.clips, strict=True)], bool)


def first_segment_scores(
    address: str, clips: Sequence[Clip], model_name: str, *, title: str, console: Console, batch: int = 16
) -> Scores:
    """Ask the model `model_name` at `address` (host:port, gRPC) for every clip, `batch` at once, with a progress bar.

    A clip that cannot be read is named in the log and left out. Raises PredictError where the server gives no scores,
    or NoClipReadable.
    """
    return asyncio.run(_ask(address, clips, model_name, title, console, batch))


async def _ask(
    address: str, clips: Sequence[Clip], model_name: str, title: str, console: Console, batch: int
) -> Scores:
    predictor = Predictor(address, model_name, retry_budget_s=RETRY_BUDGET_S)
    read: list[Clip] = []
    answers: list[Prediction] = []
    starts = range(0, len(clips), batch)
    try:
        with ThreadPoolExecutor(max_workers=2) as pool:
            for start in track(starts, title, console=console):
                own = clips[start : start + batch]
                heard = zip(own, pool.map(_image, own), strict=True)
                images = {clip: image for clip, image in heard if image is not None}
                if images:
                    answers += await predictor.predict(list(images.values()))
                    read += images
    finally:
        await predictor.close()
    if not answers:
        raise NoClipReadable(f"none of the {len(clips)} clips can be read; the log says why")
    names = tuple(answers[0].scores)
    return Scores(names, read, np.array([list(answer.scores.values()) for answer in answers], dtype=np.float32))


def _image(clip: Clip) -> NDArray[np.uint8] | None:
    try:
        return spectrogram(windows(load_clip(clip.path))[0])
    except ClipUnreadable as error:
        log.warning("clip skipped", reason=str(error))
        return None
