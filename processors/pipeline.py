"""What becomes of one record: record -> spectrogram -> prediction -> label, or a dead letter on the way.

Values in, values out: nothing here waits, or talks to Kafka or to the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from earshot.deadletters import Stage, dead_letter
from earshot.labels import Label
from earshot.segments import Record, Segment
from earshot.spectrogram import DEFAULT_PARAMS, SpectrogramParams, spectrogram
from processors import metrics

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from earshot.segments import Headers
    from processors.predictor import Prediction


@dataclass(frozen=True, slots=True)
class Incoming:
    """A record of the segments topic, whatever it holds."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """A valid segment and the model's input for it."""

    segment: Segment
    image: NDArray[np.uint8]
    """uint8 [mels, frames, channels]."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a record cannot be processed."""

    stage: Stage
    error: Exception


def prepare(incoming: Incoming, params: SpectrogramParams = DEFAULT_PARAMS) -> Prepared | Failure:
    """The segment and the spectrogram of a record, or why there is none: whatever it is, a record is a dead letter."""
    try:
        segment = Segment.from_record(incoming.key, incoming.value, incoming.headers)
    except Exception as error:
        return Failure("decode", error)
    try:
        with metrics.SPECTROGRAM_S.time():
            return Prepared(segment, spectrogram(segment.pcm, params))
    except Exception as error:
        return Failure("spectrogram", error)


def label(prepared: Prepared, prediction: Prediction, *, model_name: str, top_k: int, threshold: float) -> Label:
    """The label of a prepared segment."""
    return Label.of(
        prepared.segment,
        prediction.scores,
        model_name=model_name,
        model_version=prediction.model_version,
        top_k=top_k,
        threshold=threshold,
        thresholds=prediction.thresholds,
    )


def bury(incoming: Incoming, failure: Failure) -> Record:
    """The dead letter of a record that failed."""
    return dead_letter(
        incoming.key,
        incoming.value,
        incoming.headers,
        error=failure.error,
        stage=failure.stage,
        topic=incoming.topic,
        partition=incoming.partition,
        offset=incoming.offset,
    )
