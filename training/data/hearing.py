"""What a model is shown of a clip: its windows, as images that are made when they are needed.

Of each clip there are the windows that a live segment may be: back to back from its beginning, as the agent cuts
continuous sound; the first after the agent's pre-roll; and for training the clip's last three seconds, and further
ones in between. A spectrogram that is a picture already has no sound to cut: it is its own only window, and is moved
where the sound would be.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from rich.progress import track

from earshot.audio import SAMPLE_RATE_HZ, SEGMENT_SAMPLES, fit_segment, windows
from earshot.labels import UNKNOWN
from earshot.logs import get_log
from earshot.spectrogram import DEFAULT_PARAMS, SpectrogramParams, spectrogram
from training.data.ahead import ahead
from training.data.clips import Clip, ClipUnreadable, is_picture, load_clip, load_picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from rich.console import Console

    Window = Callable[[], NDArray[np.uint8]]
    """Gives the image of one window, uint8 [mels, frames, channels]."""

log = get_log(__name__)

PRE_ROLL_S = 0.5
"""Silence before the sound in one window: a live segment begins with the agent's pre-roll."""
STEP_S = 0.5
"""Between the starts of the further windows, which a clip longer than one has."""
THREADS = os.cpu_count() or 2
"""Clips, or windows of clips, that are worked on at once: decoding and spectrograms leave Python's lock."""

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Roles:
    """What each of a clip's windows is for, by its number."""

    heard: int
    """How many are back to back; they come first, and the first of them is the clip's first three seconds."""
    whole: int
    """How many of these, from the first, are not padded; 1 of a clip that is shorter than a window."""
    count: int
    """All of them."""

    @property
    def trained(self) -> list[int]:
        """All but a padded tail, in whose place are the clip's last three seconds."""
        return [number for number in range(self.count) if not self.whole <= number < self.heard]


def judged_windows(clip: Clip, heard: int, whole: int) -> int:
    """How many of a clip's windows, back to back from the first, a model is judged by.

    Of background the whole ones alone: false accepts are counted as in a stream that goes on, which has no others.
    heard, whole: as `Roles` has them.
    """
    return whole if clip.label == UNKNOWN else heard


@dataclass(frozen=True, slots=True)
class Heard:
    """The windows of one clip."""

    back_to_back: Sequence[Window]
    """At least one; the first is the clip's first three seconds."""
    whole: int
    """How many of them, from the first, are not padded; 1 of a clip that is shorter than a window."""
    pre_rolled: Window
    ending: Sequence[Window]
    """The clip's last three seconds, where they are none of those back to back."""
    between: Sequence[Window]

    def images(self, *, between: bool) -> tuple[NDArray[np.uint8], Roles]:
        """The windows, with those in between or without, as images [windows, mels, frames, channels]."""
        shown = (*self.back_to_back, self.pre_rolled, *self.ending, *(self.between if between else ()))
        return np.stack([image() for image in shown]), Roles(len(self.back_to_back), self.whole, len(shown))


def hear(path: Path, params: SpectrogramParams = DEFAULT_PARAMS) -> Heard:
    """The windows of the clip at `path`, a recording or a picture of one; raises ClipUnreadable."""
    if is_picture(path):
        image = load_picture(path, params)
        frames = round(PRE_ROLL_S * SAMPLE_RATE_HZ / params.hop_samples)
        return Heard([lambda: image], 1, lambda: np.pad(image, ((0, 0), (frames, 0), (0, 0)))[:, :-frames], (), ())

    def image_of(window: NDArray[np.int16]) -> Window:
        return partial(spectrogram, window, params)

    pcm = load_clip(path)
    silence = np.zeros(round(PRE_ROLL_S * SAMPLE_RATE_HZ), dtype=np.int16)
    step = round(STEP_S * SAMPLE_RATE_HZ)
    starts = [start for start in range(step, pcm.size - SEGMENT_SAMPLES, step) if start % SEGMENT_SAMPLES]
    whole, tail = divmod(pcm.size, SEGMENT_SAMPLES)
    return Heard(
        [image_of(window) for window in windows(pcm)],
        max(whole, 1),
        image_of(fit_segment(np.concatenate([silence, pcm[:SEGMENT_SAMPLES]]))),
        [image_of(pcm[-SEGMENT_SAMPLES:])] if whole and tail else [],
        [image_of(pcm[start : start + SEGMENT_SAMPLES]) for start in starts],
    )


def each_heard(
    clips: Sequence[Clip],
    make: Callable[[Clip], Made],
    unreadable: list[str],
    title: str,
    *,
    console: Console | None = None,
    most: int = 4,
) -> Iterator[tuple[Clip, Made]]:
    """Each of `clips` with what `make` makes of it, under a progress bar; threads make up to `most` of them ahead.

    A clip for which `make` raises ClipUnreadable is named in the log, left out, and a line is added to `unreadable`.
    """

    def made(clip: Clip) -> Made | ClipUnreadable:
        try:
            return make(clip)
        except ClipUnreadable as error:
            return error

    with ThreadPoolExecutor(THREADS) as pool:
        work = ahead(pool, clips, made, most)
        for clip, one in track(work, title, total=len(clips), console=console, disable=not clips):
            if isinstance(one, ClipUnreadable):
                log.warning("clip skipped", reason=str(one))
                unreadable.append(str(one))
            else:
                yield clip, one
