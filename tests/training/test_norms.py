from __future__ import annotations

from typing import Any

import keras
import numpy as np

from training.finetuning.norms import FusedNorm, with_fused_norms

IMAGES = np.random.default_rng(0).normal(2.0, 3.0, (8, 5, 4, 3)).astype(np.float32)
SAMPLES = IMAGES[..., 0].size


def network() -> Any:
    """A network within a network, as the features of Inception V3 are."""
    inner = keras.Sequential([keras.Input((5, 4, 3)), keras.layers.BatchNormalization(scale=False, momentum=0.9)])
    outer = keras.Sequential([keras.Input((5, 4, 3)), inner, keras.layers.Conv2D(2, 3), keras.layers.Flatten()])
    inner.layers[0].set_weights(
        [
            np.array([0.5, -1.0, 2.0], np.float32),
            np.array([1.0, 2.0, 3.0], np.float32),
            np.array([4.0, 5.0, 6.0], np.float32),
        ]
    )
    return outer


def norm_of(whole: Any) -> Any:
    return whole.layers[0].layers[0]


def gradients(whole: Any, trainable: bool = True) -> list[Any]:
    import tensorflow as tf

    norm_of(whole).trainable = trainable
    images = tf.constant(IMAGES)
    with tf.GradientTape() as tape:
        tape.watch(images)
        loss = tf.reduce_mean(whole(images, training=True) ** 2)
    return [np.asarray(each) for each in tape.gradient(loss, [images, *whole.trainable_variables])]


def test_it_learns_as_keras_does_but_for_the_unbiased_variance() -> None:
    theirs = network()
    ours = with_fused_norms(theirs)
    assert isinstance(norm_of(ours), FusedNorm)
    for own, other in zip(gradients(ours), gradients(theirs), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-5)
    (beta, mean, variance), (their_beta, their_mean, their_variance) = (
        norm_of(whole).get_weights() for whole in (ours, theirs)
    )
    np.testing.assert_array_equal(beta, their_beta)
    np.testing.assert_allclose(mean, their_mean, rtol=1e-5)
    before = 0.9 * np.array([4.0, 5.0, 6.0], np.float32)
    np.testing.assert_allclose(variance - before, (their_variance - before) * SAMPLES / (SAMPLES - 1), rtol=1e-4)


def test_it_does_not_measure_where_it_is_not_to() -> None:
    theirs = network()
    ours = with_fused_norms(theirs)
    for own, other in zip(gradients(ours, trainable=False), gradients(theirs, trainable=False), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.predict_on_batch(IMAGES), theirs.predict_on_batch(IMAGES), rtol=1e-4, atol=1e-5)
    for own, other in zip(norm_of(ours).get_weights(), norm_of(theirs).get_weights(), strict=True):
        np.testing.assert_array_equal(own, other)


def test_bfloat16_is_normalised_in_bfloat16() -> None:
    norm = FusedNorm(scale=False, dtype="mixed_bfloat16")
    normalised = norm(IMAGES, training=True)
    assert keras.backend.standardize_dtype(normalised.dtype) == "bfloat16"
    expected = (IMAGES - IMAGES.mean((0, 1, 2))) / np.sqrt(IMAGES.var((0, 1, 2)) + norm.epsilon)
    np.testing.assert_allclose(np.asarray(keras.ops.cast(normalised, "float32")), expected, atol=0.03)
    assert all(array.dtype == np.float32 for array in norm.get_weights())
