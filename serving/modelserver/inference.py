"""What clients ask models for, whichever way they ask: Predict, Classify, Regress and MultiInference."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from earshot.tfserving import messages
from serving.modelserver.errors import invalid, unavailable
from serving.modelserver.examples import (
    CLASSIFIERS,
    INPUTS,
    REGRESSORS,
    ExampleSignature,
    Kind,
    kind_of_task,
    require_method,
    serialized_examples,
)
from serving.modelserver.inference_pool import ready_threads
from serving.modelserver.signatures import (
    DEFAULT_SIGNATURE,
    chosen_outputs,
    decode_inputs,
    require_predict_method,
    require_type,
    signature_to_predict,
)
from serving.modelserver.tensors import LIGHT_BYTES, from_numpy, slow_to_read

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from tensorflow.core.protobuf import meta_graph_pb2
    from tensorflow_serving.apis import (
        classification_pb2,
        inference_pb2,
        input_pb2,
        model_pb2,
        predict_pb2,
        regression_pb2,
    )

    from serving.modelserver.in_place import InPlaceRequest
    from serving.modelserver.inference_pool import Runner
    from serving.modelserver.loaded import Loaded
    from serving.modelserver.metrics import ServingMetrics
    from serving.modelserver.servables import Servables

T = TypeVar("T")

LIGHT_EXAMPLES = 500
"""Up to so many examples' results are made on the event loop; more of them are a thread's."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered."""

    version: int
    signature: str
    outputs: dict[str, NDArray[Any]]


class Inference:
    """Finds the version that a request asks for, checks the request, runs it, and makes the answer.

    Every method raises ServingError where the request cannot be answered.
    """

    def __init__(
        self,
        servables: Servables,
        runner: Runner,
        metrics: ServingMetrics,
        max_bytes: int,
        *,
        most_decoding: int | None = None,
        check_methods: bool = False,
        packed: bool = False,
    ) -> None:
        """max_bytes: most that the tensors of a request may take, unpacked.

        most_decoding: requests that may at once be decoded by a thread, or wait for one; None: any number.
        check_methods: whether a signature has to say that it is for what it is asked for; those of TF2 models are all
        for Predict. packed: whether Predict is answered with numbers in `tensor_content`.
        """
        self._servables = servables
        self._runner = runner
        self._metrics = metrics
        self._max_bytes = max_bytes
        self._most_decoding = most_decoding
        self._decoding = 0
        self._check_methods, self._packed = check_methods, packed
        threads = os.cpu_count() or 1
        self._codec = ready_threads(threads, "codec")
        self._readers = asyncio.Semaphore(threads)
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """Let go of the threads."""
        self._codec.shutdown(cancel_futures=True)

    async def do(self, work: Callable[[], T], *, heavy: bool) -> T:
        """The result of `work`, in a thread where it would hold up the event loop; no more of them than cores."""
        if not heavy:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._codec, work)

    async def _decoded(self, work: Callable[[], T], *, heavy: bool) -> T:
        """As `do`, of what came in; UNAVAILABLE at once where as many as may wait do."""
        if not heavy:
            return work()
        if self._most_decoding is not None and self._decoding >= self._most_decoding:
            raise unavailable(f"{self._most_decoding} requests are being read already; try again later")
        self._decoding += 1
        try:
            await self._readers.acquire()  # who waits here and gives up leaves nothing behind, as in the threads' queue
            reading = self._codec.submit(work)
            reading.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._readers.release))
            return await asyncio.wrap_future(reading)
        finally:
            self._decoding -= 1

    async def predict(self, request: predict_pb2.PredictRequest | InPlaceRequest) -> predict_pb2.PredictResponse:
        """Outputs of one batch."""

        def decode(signature: meta_graph_pb2.SignatureDef) -> dict[str, NDArray[Any]]:
            return decode_inputs(signature, request.inputs, self._max_bytes)

        heavy = any(map(slow_to_read, request.inputs.values()))
        answer = await self.predict_arrays(request.model_spec, decode, request.output_filter, heavy=heavy)

        def encode() -> predict_pb2.PredictResponse:
            response = messages.PredictResponse()
            _fill_spec(response.model_spec, request.model_spec.name, answer.version, answer.signature)
            for name, array in answer.outputs.items():
                from_numpy(array, response.outputs[name], packed=self._packed)
            return response

        size = sum(array.nbytes for array in answer.outputs.values())
        return await self.do(encode, heavy=size > LIGHT_BYTES)

    async def predict_arrays(
        self,
        spec: model_pb2.ModelSpec,
        decode: Callable[[meta_graph_pb2.SignatureDef], dict[str, NDArray[Any]]],
        output_filter: Sequence[str] = (),
        *,
        heavy: bool = False,
    ) -> Answer:
        """Outputs by name of one batch, which `decode` makes for the signature; heavy: in a thread."""
        with self._servables.lease(spec) as loaded:
            name, signature = signature_to_predict(loaded.engine.signature_defs, spec.signature_name)
            if self._check_methods:
                require_predict_method(signature)
            outputs = chosen_outputs(signature, output_filter)
            inputs = await self._decoded(lambda: decode(signature), heavy=heavy)
            return Answer(loaded.version, name, await self._run(spec.name, "Predict", loaded, name, inputs, outputs))

    async def classify(
        self, request: classification_pb2.ClassificationRequest
    ) -> classification_pb2.ClassificationResponse:
        """Labels and scores of each example."""
        return await self._answer("Classify", request, CLASSIFIERS, messages.ClassificationResponse())

    async def regress(self, request: regression_pb2.RegressionRequest) -> regression_pb2.RegressionResponse:
        """The value of each example."""
        return await self._answer("Regress", request, REGRESSORS, messages.RegressionResponse())

    async def multi_inference(
        self, request: inference_pb2.MultiInferenceRequest
    ) -> inference_pb2.MultiInferenceResponse:
        """The results of several classify and regress signatures of one version, over the same examples."""
        _check_tasks(request.tasks)
        spec = request.tasks[0].model_spec
        response = messages.MultiInferenceResponse()
        with self._servables.lease(spec) as loaded:
            asked = [kind_of_task(loaded.engine.signature_defs, task) for task in request.tasks]
            for kind, signature in asked:
                self._check(kind, signature)
            if len({signature.input_tensor for _, signature in asked}) > 1:
                raise invalid("Input tensor must be the same for all Signatures.")
            examples = await self._examples(spec.name, request.input)
            for kind, signature in asked:
                answer = response.results.add()
                _fill_spec(answer.model_spec, spec.name, loaded.version, signature.name)
                result = await self._result("MultiInference", spec.name, loaded, kind, signature, examples)
                getattr(answer, kind.field).CopyFrom(result)
        return response

    async def _answer(self, method: str, request: Any, kind: Kind, response: Any) -> Any:
        """`response` filled with what the request's one signature, of this kind, answers."""
        spec = request.model_spec
        with self._servables.lease(spec) as loaded:
            signature = kind.find(loaded.engine.signature_defs, spec.signature_name)
            self._check(kind, signature)
            examples = await self._examples(spec.name, request.input)
            response.result.CopyFrom(await self._result(method, spec.name, loaded, kind, signature, examples))
            _fill_spec(response.model_spec, spec.name, loaded.version, signature.name)
            return response

    def _check(self, kind: Kind, signature: ExampleSignature) -> None:
        if self._check_methods:
            require_method(kind, signature.definition)

    async def _examples(self, model: str, sent: input_pb2.Input) -> NDArray[Any]:
        """The examples of a request as bytes, [examples]."""
        examples = await self._decoded(lambda: serialized_examples(sent), heavy=sent.ByteSize() > LIGHT_BYTES)
        self._metrics.examples(model, len(examples))
        return examples

    async def _result(
        self,
        method: str,
        model: str,
        loaded: Loaded,
        kind: Kind,
        signature: ExampleSignature,
        examples: NDArray[Any],
    ) -> Any:
        """What a signature says of examples, as a message."""
        require_type(INPUTS, signature.definition.inputs[INPUTS].dtype, messages.DataType["DT_STRING"])
        outputs = await self._run(model, method, loaded, signature.name, {INPUTS: examples}, signature.outputs)
        count = len(examples)
        return await self.do(lambda: kind.result(outputs, count), heavy=count > LIGHT_EXAMPLES)

    async def _run(
        self,
        model: str,
        method: str,
        loaded: Loaded,
        signature: str,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Sequence[str],
    ) -> dict[str, NDArray[Any]]:
        with self._metrics.running(model, method):
            return await self._runner.run(loaded, signature, inputs, outputs)


def _check_tasks(tasks: Sequence[inference_pb2.InferenceTask]) -> None:
    """Raise ServingError where the tasks of a MultiInference request do not go together."""
    if not tasks:
        raise invalid("MultiInferenceRequest has no tasks")
    if not all(task.model_spec.name for task in tasks):
        raise invalid("Found ModelSpec with an empty model name.")
    if len({task.model_spec.name for task in tasks}) > 1:
        raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
    names = Counter(task.model_spec.signature_name or DEFAULT_SIGNATURE for task in tasks)
    if repeated := next((name for name, count in names.items() if count > 1), None):
        raise invalid(f"Duplicate evaluation of signature: {repeated}")


def _fill_spec(spec: model_pb2.ModelSpec, name: str, version: int, signature: str) -> None:
    spec.name = name
    spec.version.value = version
    spec.signature_name = signature
