"""Runs a SavedModel in TensorFlow, in a session as TensorFlow Serving does: so TF1's models and TF2's alike."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

from serving.failures import CannotLoadNow
from serving.modelserver.errors import ServingError, invalid, status_code
from serving.modelserver.signatures import check_shape
from serving.saved_model import SERVE_TAG, read_signatures

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_PASSING = (tf.errors.ResourceExhaustedError, tf.errors.UnavailableError, tf.errors.AbortedError)
"""What TensorFlow raises for reasons that may pass."""
MOST_CALLABLES = 64
"""Ways to call a model that are kept: each is a signature, and a choice of its outputs."""

ELEMENTWISE = {
    *("Identity", "Cast", "AsString", "Neg", "Abs", "Sign", "Square", "Sqrt", "Rsqrt", "Exp", "Log", "Log1p", "Floor"),
    *("Ceil", "Round", "Relu", "Relu6", "Elu", "Sigmoid", "Tanh", "Softplus", "Sin", "Cos", "LogicalNot"),
    *("Add", "AddV2", "Sub", "Mul", "Div", "RealDiv", "FloorDiv", "FloorMod", "Maximum", "Minimum", "Pow"),
    *("Equal", "NotEqual", "Less", "LessEqual", "Greater", "GreaterEqual", "LogicalAnd", "LogicalOr"),
}
"""Operations that take tensors of any shape: where two do not go together they say so."""


def _not_of_its_loader(line: logging.LogRecord) -> bool:
    """TensorFlow warns of TF1's loader, which is what loads models of TF1 and TF2 alike."""
    return "saved_model.load" not in line.getMessage()


@dataclass(frozen=True, slots=True)
class Threads:
    """TensorFlow's threads; 0 is as many as it chooses."""

    intra_op: int = 0
    """Within one operation."""
    inter_op: int = 0
    """Across operations."""


class TensorFlowEngine:
    """One loaded version in a session of its own."""

    def __init__(self, version_dir: Path, threads: Threads | None = None, tags: Sequence[str] = (SERVE_TAG,)) -> None:
        """Load the SavedModel's graph of these tags; raises BrokenModel, CannotLoadNow, or what TensorFlow raises."""
        self.signature_defs = read_signatures(version_dir, tags)
        threads = threads or Threads()
        tf.get_logger().addFilter(_not_of_its_loader)
        graph = tf.Graph()
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=threads.intra_op,
            inter_op_parallelism_threads=threads.inter_op,
            allow_soft_placement=True,
        )
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        try:
            with graph.as_default():
                tf.compat.v1.saved_model.load(self._session, list(tags), str(version_dir))
            graph.finalize()
        except BaseException as error:
            self._session.close()
            if isinstance(error, _PASSING):
                raise CannotLoadNow(str(error)) from error
            raise
        self._call = functools.lru_cache(MOST_CALLABLES)(self._callable)
        self._takes_any_shape = functools.lru_cache(MOST_CALLABLES)(self._element_by_element)

    def run(
        self, signature: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> dict[str, NDArray[Any]]:
        """The outputs asked for, by name; raises ServingError where the model cannot take the inputs."""
        names = tuple(sorted(outputs))  # a callable for each set of them, in whatever order clients ask
        try:
            self._require_shapes(signature, inputs, names)
            call = self._call(signature, tuple(inputs), names)
            answer = call(*inputs.values())
        except tf.errors.OpError as error:
            raise ServingError(status_code(error.error_code), str(error.message)) from error
        except UnicodeDecodeError as error:  # the message quotes bytes of the request, and is no text any more
            raise invalid(error.object.decode(errors="replace")) from error
        return {name: _array(value) for name, value in zip(names, answer, strict=True)}

    def close(self) -> None:
        """Let go of the model's memory."""
        self._call.cache_clear()
        self._takes_any_shape.cache_clear()
        self._session.close()
        del self._session  # so that a collection frees the graph, which refers to itself

    def _require_shapes(self, signature: str, inputs: Mapping[str, NDArray[Any]], outputs: tuple[str, ...]) -> None:
        """Raise ServingError where shapes are not the signature's, unless all that is computed takes any shape.

        TensorFlow Serving compares them with nothing, so that models whose signature says [?, 1] are asked for [3]. But
        at some shapes TensorFlow ends the process.
        """
        known = self.signature_defs[signature].inputs
        try:
            for name, array in inputs.items():
                check_shape(name, known[name].tensor_shape, array.shape)
        except ServingError:
            if not self._takes_any_shape(signature, tuple(inputs), outputs):
                raise

    def _element_by_element(self, signature: str, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> bool:
        """Whether elements of these outputs are computed of elements of these inputs, by `ELEMENTWISE` operations."""
        definition = self.signature_defs[signature]
        fed = {self._in_graph(signature, definition.inputs[name].name) for name in inputs}
        wanted = [self._in_graph(signature, definition.outputs[name].name) for name in outputs]
        needed = _reached(
            [getattr(each, "op", each) for each in wanted],
            lambda op: [*op.control_inputs, *(tensor.op for tensor in op.inputs if tensor not in fed)],
        )
        touched = _reached(
            [op for tensor in fed for op in tensor.consumers()],
            lambda op: [user for tensor in op.outputs for user in tensor.consumers()],
        )
        return all(op.type in ELEMENTWISE for op in needed & touched)

    def _callable(
        self, signature: str, inputs: tuple[str, ...], outputs: tuple[str, ...]
    ) -> Callable[..., list[NDArray[Any]]]:
        definition = self.signature_defs[signature]
        fetches = [definition.outputs[name].name for name in outputs]
        for name, fetched in zip(outputs, fetches, strict=True):
            element = self._in_graph(signature, fetched)
            if not getattr(element, "outputs", True):  # what initialises a model stands beside its signatures
                raise invalid(f"output {name} of {signature} is an operation, {fetched}, and no tensor")
        options = config_pb2.CallableOptions(feed=[definition.inputs[name].name for name in inputs], fetch=fetches)
        # The public make_callable compares shapes with the graph's first, which TensorFlow Serving does not.
        made: Callable[..., list[NDArray[Any]]] = self._session._make_callable_from_options(options)  # noqa: SLF001
        return made

    def _in_graph(self, signature: str, name: str) -> Any:
        """The tensor or operation of this name; raises ServingError where the signature names one that is not there.

        A signature of sparse tensors has three names in another field, and none here.
        """
        try:
            return self._session.graph.as_graph_element(name)
        except (KeyError, ValueError) as error:
            raise invalid(
                f"signature {signature} of the model names {name!r}, which is no tensor of its graph"
            ) from error


def _reached(first: Iterable[tf.Operation], following: Callable[[tf.Operation], list[tf.Operation]]) -> set[Any]:
    """Operations that are reached from the `first` ones, these among them."""
    reached, waiting = set(), list(first)
    while waiting:
        op = waiting.pop()
        if op not in reached:
            reached.add(op)
            waiting += following(op)
    return reached


def _array(value: Any) -> NDArray[Any]:
    """A session gives scalars as they are."""
    return value if isinstance(value, np.ndarray) else np.array(value, object if isinstance(value, bytes) else None)
