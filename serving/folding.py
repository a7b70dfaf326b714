"""Folds batch normalisation into the convolutions before it, which a network that only infers no longer needs.

The graph has half of the variables then, and loads faster; TensorFlow adds bias and activation within the convolution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator


def fold_batch_norm(network: Any) -> Any:
    """A copy of a functional or sequential Keras model without those batch normalisations that follow a convolution.

    Its answers are those of `network` in inference, but for rounding. Other kinds of model are returned as they are.
    """
    if not isinstance(network, keras.Model) or not hasattr(network, "operations"):
        return network
    layers = {layer.name: layer for layer in _layers(network)}
    norms = {norm.name: convolution.name for norm, convolution in _pairs(layers)}

    def copy(layer: Any) -> Any:
        config = layer.get_config()
        if layer.name in norms:
            return _Folded(name=layer.name)
        if layer.name in norms.values():
            config["use_bias"] = True
        return type(layer).from_config(config)

    folded = keras.models.clone_model(network, clone_function=copy, recursive=True)
    copies = {layer.name: layer for layer in _layers(folded)}
    for name, layer in layers.items():
        if layer.weights and name not in norms and name not in norms.values():
            copies[name].set_weights(layer.get_weights())
    for norm, convolution in norms.items():
        copies[convolution].set_weights(_folded_weights(layers[convolution], layers[norm]))
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


def _pairs(layers: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Each batch normalisation and the convolution that feeds it and nothing else."""
    feeds: dict[int, list[Any]] = {}
    for layer in layers.values():
        for tensor in keras.tree.flatten(layer.input):
            feeds.setdefault(id(tensor), []).append(layer)
    for layer in layers.values():
        fed = feeds.get(id(layer.output), [])
        is_linear = isinstance(layer, keras.layers.Conv2D) and layer.activation is keras.activations.linear
        if is_linear and len(fed) == 1 and isinstance(fed[0], keras.layers.BatchNormalization):
            yield fed[0], layer


def _folded_weights(convolution: Any, norm: Any) -> list[Any]:
    kernel, *bias = (np.asarray(weight, np.float64) for weight in convolution.get_weights())
    mean, variance = np.asarray(norm.moving_mean, np.float64), np.asarray(norm.moving_variance, np.float64)
    scale = (np.asarray(norm.gamma) if norm.scale else 1.0) / np.sqrt(variance + norm.epsilon)
    shift = (np.asarray(norm.beta) if norm.center else 0.0) - mean * scale
    return [kernel * scale, shift + (bias[0] * scale if bias else 0.0)]
