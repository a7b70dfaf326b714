from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from serving.folding import fold_batch_norm


def disturbed(model: Any) -> Any:
    """`model` with weights as training leaves them: no mean of 0, no variance of 1."""
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.2, 1.0, weight.shape) for weight in model.get_weights()])
    return model


def norms(model: Any) -> int:
    return sum(
        norms(layer) if hasattr(layer, "layers") else isinstance(layer, keras.layers.BatchNormalization)
        for layer in model.layers
    )


def outputs(model: Any, images: Any) -> list[Any]:
    return [output.numpy() for output in keras.tree.flatten(model(images, training=False))]


def branching() -> Any:
    """One convolution feeds a batch normalisation and something else, so it must stay as it is."""
    image = keras.Input((8, 8, 2))
    shared = keras.layers.Conv2D(3, 3, name="shared")(image)
    normal = keras.layers.BatchNormalization(name="stays")(shared)
    alone = keras.layers.Conv2D(3, 3, use_bias=False, name="alone")(image)
    folded = keras.layers.BatchNormalization(scale=False, name="goes")(alone)
    joined = keras.ops.concatenate([keras.ops.relu(shared), normal, folded], axis=-1)
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(joined))


def nested() -> Any:
    inner_input = keras.Input((8, 8, 2))
    inner = keras.layers.Conv2D(4, 3, strides=2, padding="same")(inner_input)
    inner = keras.layers.ReLU()(keras.layers.BatchNormalization(epsilon=0.1)(inner))
    image = keras.Input((8, 8, 2))
    scaled = keras.layers.Rescaling(1 / 2, -1)(keras.ops.flip(image, axis=1))
    pooled = keras.layers.GlobalMaxPooling2D()(keras.Model(inner_input, inner)(scaled))
    return keras.Model(image, keras.layers.Dense(2)(pooled))


def activated() -> Any:
    """The activation stands between, so the two cannot be folded."""
    image = keras.Input((8, 8, 2))
    return keras.Model(image, keras.layers.BatchNormalization()(keras.layers.Conv2D(3, 3, activation="relu")(image)))


def shared() -> Any:
    """A convolution that two normalisations follow, and a normalisation that follows two."""
    image = keras.Input((8, 8, 2))
    convolution, norm = keras.layers.Conv2D(2, 3, padding="same"), keras.layers.BatchNormalization()
    twice = keras.ops.add(norm(convolution(image)), norm(image))
    other = keras.layers.BatchNormalization()(convolution(keras.ops.flip(image, axis=1)))
    return keras.Model(image, keras.ops.concatenate([twice, other]))


def read_out() -> Any:
    """What the convolution makes is an output too."""
    image = keras.Input((8, 8, 2))
    convolved = keras.layers.Conv2D(3, 3)(image)
    return keras.Model(image, [convolved, keras.layers.BatchNormalization()(convolved)])


@pytest.mark.parametrize(("build", "left"), [(branching, 1), (nested, 0), (activated, 1), (shared, 2), (read_out, 1)])
def test_answers_stay_and_only_what_can_go_goes(build: Any, left: int) -> None:
    model = disturbed(build())
    before = [weight.copy() for weight in model.get_weights()]
    images = np.random.default_rng(1).uniform(-1, 1, (4, 8, 8, 2)).astype(np.float32)

    folded = fold_batch_norm(model)

    for now, then in zip(outputs(folded, images), outputs(model, images), strict=True):
        np.testing.assert_allclose(now, then, rtol=1e-4, atol=1e-5)
    assert norms(folded) == left
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)
