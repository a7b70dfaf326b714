"""Folds batch normalisation into the convolutions before it, which a network that only infers no longer needs.

The graph has half of the variables then, and loads faster; TensorFlow adds bias and activation within the convolution.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator


def fold_batch_norm(network: Any) -> Any:
    """A copy of a functional Keras model without those batch normalisations that follow a convolution.

    Its answers are those of `network` in inference, but for rounding. Other kinds of model are returned as they are.
    """
    if not isinstance(network, keras.Model) or not hasattr(network, "operations"):
        return network
    pairs = {id(norm): (convolution, norm) for convolution, norm in _pairs(network)}
    convolutions = {id(convolution): norm for convolution, norm in pairs.values()}

    def copy(layer: Any) -> Any:
        if id(layer) in pairs:
            return _Folded(name=layer.name)
        config = layer.get_config()
        if id(layer) in convolutions:
            config["use_bias"] = True
        return type(layer).from_config(config)

    folded = keras.models.clone_model(network, clone_function=copy, recursive=True)
    for layer, copied in zip(_layers(network), _layers(folded), strict=True):
        if id(layer) in convolutions:
            copied.set_weights(_folded_weights(layer, convolutions[id(layer)]))
        elif layer.weights and id(layer) not in pairs:
            copied.set_weights(layer.get_weights())
    return folded


class _Folded(keras.layers.Layer):  # type: ignore[misc]
    """Stands where a batch normalisation was, and takes the arguments that it took."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:  # noqa: ARG002
        return inputs


def _layers(model: Any) -> Iterator[Any]:
    """The layers of `model` and of the models within it, without those models."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _layers(layer)
        else:
            yield layer


def _pairs(model: Any) -> Iterator[tuple[Any, Any]]:
    """Each convolution and the batch normalisation that it feeds, where it feeds nothing else."""
    for layer in model.layers:
        if hasattr(layer, "operations"):
            yield from _pairs(layer)
    # Keras has no public list of who takes what: `Layer.input` knows neither the calls of operations that are no
    # layers, nor a second call of the same layer.
    calls = [call for depth in model._nodes_by_depth.values() for call in depth]  # noqa: SLF001
    taken = Counter(id(tensor) for call in calls for tensor in call.input_tensors)
    taken.update(id(tensor) for tensor in model.outputs)
    made = {id(tensor): call.operation for call in calls for tensor in call.output_tensors}
    called = Counter(id(call.operation) for call in calls)
    for call in calls:
        if not isinstance(call.operation, keras.layers.BatchNormalization):
            continue
        (tensor,) = call.input_tensors
        feeder = made[id(tensor)]
        is_linear = isinstance(feeder, keras.layers.Conv2D) and feeder.activation is keras.activations.linear
        if is_linear and taken[id(tensor)] == called[id(feeder)] == called[id(call.operation)] == 1:
            yield feeder, call.operation


def _folded_weights(convolution: Any, norm: Any) -> list[Any]:
    kernel, *bias = (np.asarray(weight, np.float64) for weight in convolution.get_weights())
    mean, variance = np.asarray(norm.moving_mean, np.float64), np.asarray(norm.moving_variance, np.float64)
    scale = (np.asarray(norm.gamma) if norm.scale else 1.0) / np.sqrt(variance + norm.epsilon)
    shift = (np.asarray(norm.beta) if norm.center else 0.0) - mean * scale
    return [kernel * scale, shift + (bias[0] * scale if bias else 0.0)]
