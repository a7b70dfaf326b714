"""A model that is judged, asked as a worker asks it: one that a server serves, or a SavedModel in this process."""

from __future__ import annotations

import asyncio
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from earshot.spectrogram import DEFAULT_PARAMS
from processors.predictor import SIGNATURE, BadAnswer, PredictError, Prediction, Predictor, check_input, predictions
from serving.inspection import notes_of_weights, recordings_seen, sounds_heard
from serving.layout import SAVED_MODEL_FILE, version_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

IMAGE_SHAPE = (DEFAULT_PARAMS.mels, DEFAULT_PARAMS.frames(), DEFAULT_PARAMS.channels)
"""[mels, frames, channels] of the spectrograms that a model is asked for."""

WAIT_S = 10.0
"""Seconds that a model server may take to describe its model."""
AWAY_S = 60.0
"""Seconds that it may be away between two batches."""


class NoModel(ValueError):
    """There is no model to ask where one was named; the message says what to name."""


class ModelChanged(PredictError):
    """The server went over to another version, so the answers are of two models."""


class Judged:
    """A model that answers images uint8 [n, mels, frames, channels] with a prediction for each."""

    def __init__(
        self,
        name: str,
        answer: Callable[[NDArray[np.uint8]], list[Prediction]],
        recordings: frozenset[str] | None = None,
        heard: frozenset[str] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        """Ask it about silence, to learn its classes; raises what `answer` raises."""
        self.name = name
        self.recordings = recordings
        """Those that it was trained on; None where it does not say."""
        self.heard = heard
        """Marks of those that its weights were taught by without labels (`training.data.heard`)."""
        self.notes = notes
        """What is to be known of its weights."""
        self._answer = answer
        first = answer(np.zeros((1, *IMAGE_SHAPE), np.uint8))[0]
        self.version = first.model_version
        self.class_names = tuple(first.scores)
        self.thresholds = np.array([first.thresholds.get(name, 0.0) for name in self.class_names], np.float32)
        """Score below which a label is `unknown`, float32 [classes]."""

    def scores(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores float32 [n, classes] of `images`; raises PredictError."""
        answered = self._answer(images)
        for each in answered:
            if each.model_version != self.version:
                raise ModelChanged(
                    f"{self.name} went from version {self.version} to {each.model_version} meanwhile; start again"
                )
        return np.array([[each.scores[name] for name in self.class_names] for each in answered], np.float32)


@contextmanager
def served_model(address: str, name: str) -> Iterator[Judged]:
    """The model `name` of the server at `address`, host:port; raises NoModel or PredictError."""
    with asyncio.Runner() as runner:

        async def connect() -> Predictor:
            predictor = Predictor(address, name, retry_budget_s=AWAY_S)
            try:
                await asyncio.wait_for(predictor.wait_for_model(IMAGE_SHAPE), WAIT_S)
            except BaseException:
                await predictor.close()
                raise
            return predictor

        def answer(images: NDArray[np.uint8]) -> list[Prediction]:
            return runner.run(predictor.predict(list(images)))

        try:
            predictor = runner.run(connect())
        except TimeoutError:
            raise NoModel(
                f"no model {name} answers at {address} within {WAIT_S:.0f} s; is the server running, and is that its "
                "gRPC port? --model-server and --model-name say which, --model takes a folder instead"
            ) from None
        try:
            yield Judged(f"{name} at {address}", answer)
        finally:
            runner.run(predictor.close())


@contextmanager
def saved_model(path: Path) -> Iterator[Judged]:
    """The SavedModel in `path`, a version's folder or the base path over several, of which the highest is taken.

    Raises NoModel or PredictError.
    """
    folder = version_in(path)
    if not (folder / SAVED_MODEL_FILE).is_file():
        lacks = f"{path} holds neither a {SAVED_MODEL_FILE} nor a numeric version folder"
        broken = f"{folder}, the newest version there, lacks {SAVED_MODEL_FILE}"
        raise NoModel(f"{lacks if folder == path else broken}; name a model with --model")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from serving.engines.tensorflow_engine import TensorFlowEngine

    try:
        engine = TensorFlowEngine(folder)
    except Exception as error:  # whatever a broken model raises
        raise NoModel(f"{folder} holds no SavedModel that loads ({type(error).__name__}: {error})") from error
    check_input(engine.signature_defs, IMAGE_SHAPE, model=str(folder))
    signature = engine.signature_defs[SIGNATURE]
    version = int(folder.name) if folder.name.isdecimal() else 0

    def answer(images: NDArray[np.uint8]) -> list[Prediction]:
        return _predictions(
            engine.run(SIGNATURE, {"spectrogram": images}, list(signature.outputs)), len(images), version
        )

    try:
        whole = folder.absolute()
        name = (whole.parent if version else whole).name
        yield Judged(name, answer, recordings_seen(folder), sounds_heard(folder), notes_of_weights(folder))
    finally:
        engine.close()


def _predictions(outputs: dict[str, NDArray[Any]], segments: int, version: int) -> list[Prediction]:
    missing = {"scores", "classes"} - set(outputs)
    if missing:
        raise BadAnswer(f"the model's answer lacks {' and '.join(sorted(missing))}; export it with serving.export")
    names = [name.decode(errors="replace") for name in outputs["classes"].ravel()]
    scores = np.asarray(outputs["scores"], np.float32)
    return predictions(scores, names, outputs.get("thresholds"), segments=segments, version=version)
