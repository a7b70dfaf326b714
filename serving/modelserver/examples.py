"""Classify and Regress: tf.Examples in, labels or values out, as TensorFlow Serving's classifier and regressor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from earshot.tfserving import messages
from serving.modelserver.errors import ServingError, invalid
from serving.modelserver.signatures import CLASSIFY, DEFAULT_SIGNATURE, REGRESS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray
    from tensorflow.core.protobuf import meta_graph_pb2
    from tensorflow_serving.apis import classification_pb2, inference_pb2, input_pb2, regression_pb2

INPUTS = "inputs"
"""Name of the one input, of serialized examples."""
CLASSES, SCORES = "classes", "scores"
"""Names of a classifier's outputs; it has at least one of them."""
VALUES = "outputs"
"""Name of a regressor's output."""


@dataclass(frozen=True, slots=True)
class ExampleSignature:
    """A signature that takes examples."""

    name: str
    definition: meta_graph_pb2.SignatureDef
    outputs: tuple[str, ...]
    """Names of the outputs that the answer is made of."""

    @property
    def input_tensor(self) -> str:
        """Name of the graph's tensor that the examples go into."""
        return str(self.definition.inputs[INPUTS].name)


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the two kinds of signature that take examples."""

    find: Callable[[Mapping[str, meta_graph_pb2.SignatureDef], str], ExampleSignature]
    """The signature of this kind with a name (empty: the default); raises ServingError where it is none."""
    method: str
    """What such a signature says it is for."""
    word: str
    """What errors call it."""
    result: Callable[[Mapping[str, NDArray[Any]], int], Any]
    """The result that a signature's outputs are, for so many examples."""
    field: str
    """Of an InferenceResult, for such a result."""


def serialized_examples(sent: input_pb2.Input) -> NDArray[Any]:
    """The examples as bytes, [examples]; a context's features are part of each. Raises ServingError without one."""
    context, examples = b"", sent.example_list.examples
    if sent.WhichOneof("kind") == "example_list_with_context":
        # Protobuf merges what is concatenated, and an example's own features win.
        context = sent.example_list_with_context.context.SerializeToString()
        examples = sent.example_list_with_context.examples
    if not examples:
        raise invalid("Input is empty.")
    array = np.empty(len(examples), object)
    array[:] = [context + example.SerializeToString() for example in examples]
    return array


def classifier(signatures: Mapping[str, meta_graph_pb2.SignatureDef], name: str) -> ExampleSignature:
    """The classify signature named `name` (empty: the default); raises ServingError where it is none."""
    name, definition = _found(signatures, name)
    if len(definition.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(definition.outputs) not in {1, 2}:
        raise invalid(f"Expected one or two output Tensors, found {len(definition.outputs)}")
    if INPUTS not in definition.inputs:
        raise invalid(f"No classification inputs found in SignatureDef: {definition}")
    outputs = tuple(output for output in (CLASSES, SCORES) if output in definition.outputs)
    if not outputs:
        raise invalid(
            f'Expected classification signature outputs to contain at least one of "{CLASSES}" or "{SCORES}". '
            f"Signature was: {definition}"
        )
    return ExampleSignature(name, definition, outputs)


def regressor(signatures: Mapping[str, meta_graph_pb2.SignatureDef], name: str) -> ExampleSignature:
    """The regress signature named `name` (empty: the default); raises ServingError where it is none."""
    name, definition = _found(signatures, name)
    if len(definition.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(definition.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    if INPUTS not in definition.inputs:
        raise invalid(f"No regression inputs found in SignatureDef: {definition}")
    if VALUES not in definition.outputs:
        raise invalid(f"No regression outputs found in SignatureDef: {definition}")
    return ExampleSignature(name, definition, (VALUES,))


def classification_result(
    outputs: Mapping[str, NDArray[Any]], examples: int
) -> classification_pb2.ClassificationResult:
    """Labels and scores of each example, from `classes` (bytes) and `scores` (float), [examples, classes] each.

    Raises ServingError where the model's outputs are not that.
    """
    for name, array in outputs.items():
        if array.ndim != 2:
            raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}")
        if array.dtype != (np.object_ if name == CLASSES else np.float32):
            expected = "DT_STRING" if name == CLASSES else "DT_FLOAT"
            raise invalid(f"Expected {name} Tensor of {expected}. Got: {array.dtype}")
        if len(array) != examples:
            raise invalid(f"Expected {name} output batch size of {examples}. Got: {len(array)}")
    widths = {array.shape[1] for array in outputs.values()}
    if len(widths) > 1:
        raise invalid(
            f"Tensors class and score should match in dim_size(1). Got "
            f"{outputs[CLASSES].shape[1]} vs. {outputs[SCORES].shape[1]}"
        )
    classes, scores = outputs.get(CLASSES), outputs.get(SCORES)
    result = messages.ClassificationResult()
    for row in range(examples):
        found = result.classifications.add()
        for column in range(*widths):
            one = found.classes.add()
            if classes is not None:
                one.label = classes[row, column].decode(errors="replace")
            if scores is not None:
                one.score = scores[row, column]
    return result


def regression_result(outputs: Mapping[str, NDArray[Any]], examples: int) -> regression_pb2.RegressionResult:
    """The value of each example, from `outputs` (float), [examples] or [examples, 1]; raises ServingError."""
    values = outputs[VALUES]
    if not (values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)):
        raise invalid(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {_shape(values)}"
        )
    if len(values) != examples:
        raise invalid(f"Input batch size did not match output batch size: {examples} vs. {len(values)}")
    if values.dtype != np.float32:
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {values.dtype}")
    result = messages.RegressionResult()
    for value in values.ravel().tolist():
        result.regressions.add(value=value)
    return result


CLASSIFIERS = Kind(classifier, CLASSIFY, "classification", classification_result, "classification_result")
REGRESSORS = Kind(regressor, REGRESS, "regression", regression_result, "regression_result")
_KINDS = {CLASSIFY: CLASSIFIERS, REGRESS: REGRESSORS}


def kind_of_task(
    signatures: Mapping[str, meta_graph_pb2.SignatureDef], task: inference_pb2.InferenceTask
) -> tuple[Kind, ExampleSignature]:
    """What a task of a MultiInference request asks for; raises ServingError where the model has no such signature."""
    name = task.model_spec.signature_name or DEFAULT_SIGNATURE
    if name not in signatures:
        raise invalid(f"Requested signature not found in model graph: {name}")
    if task.method_name not in _KINDS:
        raise ServingError(grpc.StatusCode.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}")
    kind = _KINDS[task.method_name]
    return kind, kind.find(signatures, name)


def _found(signatures: Mapping[str, meta_graph_pb2.SignatureDef], name: str) -> tuple[str, meta_graph_pb2.SignatureDef]:
    name = name or DEFAULT_SIGNATURE
    if name not in signatures:
        raise invalid(f"No signature was found with the name: {name}")
    return name, signatures[name]


def require_method(kind: Kind, definition: meta_graph_pb2.SignatureDef) -> None:
    """Raise ServingError where a signature says that it is for something else than this kind of request."""
    if definition.method_name != kind.method:
        raise invalid(f"Expected {kind.word} signature method_name to be {kind.method}. Was: {definition.method_name}")


def _shape(array: NDArray[Any]) -> str:
    return f"[{','.join(map(str, array.shape))}]"
