"""Runs a SavedModel in TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from serving.layout import SAVED_MODEL_FILE
from serving.signatures import decode_inputs
from serving.tensors import InvalidTensor
from serving.warmup import read_warmup

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from tensorflow.core.protobuf import meta_graph_pb2

_SERVE_TAG = "serve"
_NO_LIMIT = 1 << 62


class BrokenModel(ValueError):
    """A version cannot be served; the message says why."""


class TensorFlowEngine:
    """One loaded version: its signatures, and TensorFlow to run them."""

    def __init__(self, version_dir: Path) -> None:
        """Load the SavedModel; raises BrokenModel, or what TensorFlow raises, where it cannot be loaded."""
        self.signature_defs = _signature_defs(version_dir)
        loaded = tf.saved_model.load(str(version_dir), tags=[_SERVE_TAG])
        self._functions = dict(loaded.signatures)
        self._loaded = loaded  # the functions do not keep the variables alive

    def run(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name, all of them."""
        tensors = {name: tf.constant(array) for name, array in inputs.items()}
        return {name: output.numpy() for name, output in self._functions[signature](**tensors).items()}

    def warm_up(self, version_dir: Path) -> None:
        """Run the version's own warm-up requests, or one batch of one zero through each signature without them."""
        requests = read_warmup(version_dir)
        for request in requests:
            name = request.model_spec.signature_name
            if name not in self.signature_defs:
                raise BrokenModel(f"a warm-up request asks for signature {name!r}, which the model has not")
            self.run(name, decode_inputs(self.signature_defs[name], request.inputs, _NO_LIMIT))
        if not requests:
            for name, signature in self.signature_defs.items():
                self.run(name, {key: _zeros(info) for key, info in signature.inputs.items()})


def _signature_defs(version_dir: Path) -> dict[str, meta_graph_pb2.SignatureDef]:
    saved = saved_model_pb2.SavedModel.FromString((version_dir / SAVED_MODEL_FILE).read_bytes())
    graphs = [graph for graph in saved.meta_graphs if _SERVE_TAG in graph.meta_info_def.tags]
    if not graphs:
        raise BrokenModel(f"{version_dir / SAVED_MODEL_FILE} has no graph with the tag {_SERVE_TAG!r}")
    # What initialises a model stands beside the signatures, and is not one that a client can call.
    signatures = {name: each for name, each in graphs[0].signature_def.items() if each.method_name}
    if not signatures:
        raise BrokenModel(f"{version_dir / SAVED_MODEL_FILE} has no signature to call")
    return signatures


def _zeros(info: meta_graph_pb2.TensorInfo) -> NDArray[Any]:
    if info.tensor_shape.unknown_rank:
        raise InvalidTensor("an input of unknown rank needs warm-up requests beside the model")
    shape = [max(dim.size, 1) if dim.size != 0 else 0 for dim in info.tensor_shape.dim]
    dtype = tf.dtypes.as_dtype(info.dtype)
    return np.full(shape, b"", dtype=object) if dtype == tf.string else np.zeros(shape, dtype.as_numpy_dtype)
