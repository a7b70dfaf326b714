"""Loads a version: its engine, warmed up with the requests that it brings."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import grpc

from earshot.logs import get_log
from serving.failures import BrokenModel, CannotLoadNow
from serving.modelserver.errors import ServingError
from serving.modelserver.examples import CLASSIFIERS, INPUTS, REGRESSORS, kind_of_task, serialized_examples
from serving.modelserver.model_config import InvalidConfig
from serving.modelserver.signatures import chosen_outputs, decode_inputs, signature_to_predict
from serving.saved_model import SERVE_TAG
from serving.warmup import read_warmup

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tensorflow_serving.apis import input_pb2, prediction_log_pb2

    from serving.engines.engine import Engine
    from serving.modelserver.examples import ExampleSignature
    from serving.modelserver.metrics import ServingMetrics
    from serving.settings import ServerSettings

log = get_log(__name__)

_NO_LIMIT = 1 << 62
_PASSING = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE}
"""Why a warm-up request may fail that can be answered another time."""


class Loader:
    """Makes warm engines of versions' folders."""

    def __init__(self, settings: ServerSettings, metrics: ServingMetrics) -> None:
        """Raises InvalidConfig where the engine cannot follow the settings."""
        if settings.engine == "openvino" and settings.saved_model_tags != SERVE_TAG:
            raise InvalidConfig(
                f"--saved-model-tags {settings.saved_model_tags} is for TensorFlow; OpenVINO runs Earshot's exports, "
                f"of the tag {SERVE_TAG}; leave it out, or serve with --engine tensorflow"
            )
        self._settings = settings
        self._metrics = metrics
        self._stopped = threading.Event()

    def load(self, version_dir: Path) -> Engine:
        """The engine of a version; raises BrokenModel, CannotLoadNow, or what its engine raises."""
        started = time.monotonic()
        try:
            if self._stopped.is_set():
                raise CannotLoadNow("the server is stopping")
            engine = self._engine(version_dir)
        except Exception:
            self._metrics.load_tried(str(version_dir), time.monotonic() - started, loaded=False)
            raise
        self._metrics.load_tried(str(version_dir), time.monotonic() - started, loaded=True)
        if self._settings.enable_model_warmup:
            try:
                if logs := read_warmup(version_dir):
                    began = time.monotonic()
                    warm_up(engine, logs, self._settings.num_request_iterations_for_warmup)
                    self._metrics.warmed_up(str(version_dir), time.monotonic() - began)
            except BaseException:
                engine.close()
                raise
        return engine

    def stop(self) -> None:
        """Load nothing any more: a conversion under way in another thread is ended, and `load` raises CannotLoadNow."""
        self._stopped.set()

    def _engine(self, version_dir: Path) -> Engine:
        if self._settings.engine == "openvino":
            from serving.engines.openvino_engine import OpenVinoEngine, Precision

            precision = Precision(self._settings.precision)
            threads = self._settings.tensorflow_intra_op_parallelism
            return OpenVinoEngine(version_dir, precision, threads=threads, stop=self._stopped)
        from serving.engines.tensorflow_engine import TensorFlowEngine, Threads

        threads_of = Threads(
            self._settings.tensorflow_intra_op_parallelism, self._settings.tensorflow_inter_op_parallelism
        )
        return TensorFlowEngine(version_dir, threads_of, self._settings.saved_model_tags.split(","))


def may_pass(error: Exception) -> bool:
    """Whether a load failed for a reason that is not the version's: memory, or a disk that is away."""
    return isinstance(error, (CannotLoadNow, MemoryError, OSError)) and not isinstance(error, FileNotFoundError)


def warm_up(engine: Engine, logs: Sequence[prediction_log_pb2.PredictionLog], times: int = 1) -> None:
    """Run each warm-up request of a version so often; nothing else is run, which might change a model with a state.

    Raises BrokenModel where a request of its own cannot be answered, CannotLoadNow where memory is short for it.
    """
    try:
        for each in logs:
            for _ in range(times):
                _replay(engine, each)
    except ServingError as error:
        if error.code in _PASSING:
            raise CannotLoadNow(error.message) from error
        raise BrokenModel(f"a warm-up request cannot be answered: {error.message}", error.code.value[0]) from error


def _replay(engine: Engine, entry: prediction_log_pb2.PredictionLog) -> None:
    signatures = engine.signature_defs
    if entry.HasField("predict_log"):
        request = entry.predict_log.request
        name, signature = signature_to_predict(signatures, request.model_spec.signature_name)
        outputs = chosen_outputs(signature, request.output_filter)
        engine.run(name, decode_inputs(signature, request.inputs, _NO_LIMIT), outputs)
        return
    asked: list[tuple[ExampleSignature, input_pb2.Input]] = []
    for kind, field in ((CLASSIFIERS, "classify_log"), (REGRESSORS, "regress_log")):
        if entry.HasField(field):
            one = getattr(entry, field).request
            asked.append((kind.find(signatures, one.model_spec.signature_name), one.input))
    several = entry.multi_inference_log.request
    if not asked and not entry.HasField("multi_inference_log"):
        of_kind = entry.WhichOneof("log_type") or "none that is known"
        log.warning("a warm-up request is not replayed; those of Predict, Classify and others are", kind=of_kind)
    asked += [(kind_of_task(signatures, task)[1], several.input) for task in several.tasks]
    for example_signature, examples in asked:
        engine.run(example_signature.name, {INPUTS: serialized_examples(examples)}, example_signature.outputs)
