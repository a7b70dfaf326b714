from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from serving.network import (
    BLOCKS,
    TAPS,
    Architecture,
    ConvBlock,
    Head,
    NetworkError,
    blocks_needed,
    blocks_of,
    build_network,
    creation_order,
    cut_inception,
    feature_network,
)

SHAPE = (128, 301, 3)


@pytest.fixture(scope="module")
def keras_own() -> Any:
    """Keras's own Inception V3, its batch normalisations as training would leave them."""
    rng = np.random.default_rng(0)
    network = keras.applications.InceptionV3(include_top=False, weights=None, input_shape=SHAPE)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    return network


@pytest.fixture(scope="module")
def blocks(keras_own: Any) -> list[ConvBlock]:
    convolutions = creation_order([each for each in keras_own.layers if isinstance(each, keras.layers.Conv2D)])
    norms = creation_order([each for each in keras_own.layers if isinstance(each, keras.layers.BatchNormalization)])
    return [ConvBlock(one.get_weights()[0], *norm.get_weights()) for one, norm in zip(convolutions, norms, strict=True)]


def head(features: int, classes: int = 3, hidden: int = 5) -> Head:
    rng = np.random.default_rng(1)

    def layer(*shape: int) -> tuple[Any, Any]:
        return rng.normal(0, 0.1, shape).astype(np.float32), rng.normal(size=shape[-1]).astype(np.float32)

    return Head((layer(features, hidden), layer(hidden, classes)))


def images(count: int = 2) -> Any:
    return np.random.default_rng(2).integers(0, 256, (count, *SHAPE)).astype(np.float32)


def test_layers_are_ordered_by_the_number_that_keras_gave_them() -> None:
    layers = [SimpleNamespace(name=name) for name in ("conv2d_10", "conv2d_2", "conv2d", "conv2d_1")]
    assert [layer.name for layer in creation_order(layers)] == ["conv2d", "conv2d_1", "conv2d_2", "conv2d_10"]


@pytest.mark.parametrize("bands", [2, 3])
def test_features_are_those_of_keras_by_tap_then_band_from_low_then_mean_and_max_then_channel(
    keras_own: Any, blocks: list[ConvBlock], bands: int
) -> None:
    architecture = Architecture(("mixed0", "mixed1"), bands=bands, input_range=(-1.0, 1.0))
    low_at_the_bottom = images()[:, ::-1] / 127.5 - 1
    taps = keras.Model(keras_own.input, [keras_own.get_layer(tap).output for tap in architecture.taps])
    expected = []
    for tapped in taps(low_at_the_bottom, training=False):
        rows = tapped.numpy()[:, ::-1]  # the lowest frequency first, as in a spectrogram
        edges = [round(part * rows.shape[1] / bands) for part in range(bands + 1)]
        for low, high in itertools.pairwise(edges):
            expected += [rows[:, low:high].mean(axis=(1, 2)), rows[:, low:high].max(axis=(1, 2))]

    features = feature_network(architecture, blocks)(images(), training=False).numpy()

    np.testing.assert_allclose(features, np.concatenate(expected, axis=1), rtol=1e-3, atol=1e-4)


def test_a_sound_in_a_low_band_changes_the_features_of_the_low_band_most(blocks: list[ConvBlock]) -> None:
    network = feature_network(Architecture(("mixed0",), bands=3), blocks)
    silence = np.zeros((1, *SHAPE), np.float32)
    low = silence.copy()
    low[:, :20] = 255.0  # mel 0 is the lowest
    changed = np.abs(network(low, training=False).numpy() - network(silence, training=False).numpy())
    by_band = changed.reshape(3, -1).sum(axis=1)
    assert by_band[0] > 2 * by_band[2]


def test_scores_are_the_heads_scores_of_the_features(blocks: list[ConvBlock]) -> None:
    architecture = Architecture(("mixed0",), bands=2)
    features = feature_network(architecture, blocks)(images(), training=False).numpy()
    own_head = head(features.shape[1])
    scores = build_network(architecture, blocks, own_head)(images(), training=False).numpy()
    np.testing.assert_allclose(scores, own_head.scores(features), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, rtol=1e-5)
    assert (own_head.features, own_head.classes) == (features.shape[1], 3)


@pytest.mark.parametrize("tap", TAPS)
def test_blocks_needed_are_the_convolutions_before_the_tap(keras_own: Any, tap: str) -> None:
    cut = keras.Model(keras_own.input, keras_own.get_layer(tap).output)
    convolutions = sum(isinstance(layer, keras.layers.Conv2D) for layer in cut.layers)
    assert blocks_needed([tap]) == blocks_needed(["mixed0", tap]) == convolutions
    assert blocks_needed([TAPS[-1]]) == BLOCKS
    assert Architecture((tap,), bands=1).widths == (2 * cut.output.shape[-1],)


def test_blocks_after_the_last_tap_may_be_missing_but_none_before_it(blocks: list[ConvBlock]) -> None:
    needed = blocks_needed(["mixed0"])
    assert feature_network(Architecture(("mixed0",)), blocks[:needed]).output_shape[1] == 256 * 2 * 3
    with pytest.raises(NetworkError, match=f"mixed0 need {needed} blocks, the weights hold {needed - 1}"):
        feature_network(Architecture(("mixed0",)), blocks[: needed - 1])


def test_networks_side_by_side_each_give_their_features(blocks: list[ConvBlock]) -> None:
    one, needed = Architecture(("mixed0", "mixed1"), bands=1), blocks_needed(["mixed1"])
    others = [replace(block, kernel=-block.kernel) for block in blocks]
    two = replace(one, inceptions=2)
    features = feature_network(two, [*blocks, *others])
    separate = [feature_network(one, own)(images(), training=False) for own in (blocks, others)]
    np.testing.assert_allclose(features(images(), training=False), np.concatenate(separate, axis=1), rtol=1e-5)
    assert sum(two.widths) == features.output_shape[1]
    assert two.widths == 2 * one.widths
    for own, before in zip(blocks_of(features), [*blocks[:needed], *others[:needed]], strict=True):
        np.testing.assert_array_equal(own.kernel, before.kernel)
    with pytest.raises(NetworkError, match=f"mixed1 need {needed} blocks of each of 2 .*, the weights hold 37 in all"):
        feature_network(two, blocks[:37])


def test_a_kernel_of_another_shape_is_named(blocks: list[ConvBlock]) -> None:
    wrong = [*blocks[:3], replace(blocks[3], kernel=blocks[4].kernel), *blocks[4:]]
    with pytest.raises(NetworkError, match="kernel 4 has the shape"):
        feature_network(Architecture(("mixed0",)), wrong)


def test_a_head_for_other_features_is_refused(blocks: list[ConvBlock]) -> None:
    with pytest.raises(NetworkError, match="the head takes 7 features, the network makes 1536"):
        build_network(Architecture(("mixed0",)), blocks, head(7))


def test_more_bands_than_rows_are_refused(blocks: list[ConvBlock]) -> None:
    with pytest.raises(NetworkError, match="99 bands do not fit"):
        feature_network(Architecture(("mixed0",), bands=99), blocks)


def test_an_image_that_is_shrunk_is_averaged_before_the_first_convolution(blocks: list[ConvBlock]) -> None:
    bright = np.zeros((1, *SHAPE), np.float32)
    bright[:, ::2, 1::2] = 255.0
    even = np.full((1, *SHAPE), 63.75, np.float32)
    shrunk = feature_network(Architecture(("mixed0",), bands=1, shrink=(2, 2)), blocks)
    np.testing.assert_allclose(shrunk(bright), shrunk(even), rtol=1e-4, atol=1e-5)
    as_it_is = feature_network(Architecture(("mixed0",), bands=1), blocks)
    assert np.abs(as_it_is(bright) - as_it_is(even)).max() > 1e-3


def test_an_image_that_is_too_small_for_a_block_is_refused(blocks: list[ConvBlock]) -> None:
    with pytest.raises(NetworkError, match="images of 32 x 75 are too small for mixed10"):
        feature_network(Architecture(("mixed10",), bands=1, shrink=(4, 4)), blocks)


def test_blocks_are_read_back_as_they_went_in(blocks: list[ConvBlock]) -> None:
    network = feature_network(Architecture(("mixed0",), bands=1), blocks)
    for one, before in zip(blocks_of(network), blocks[: blocks_needed(["mixed0"])], strict=True):
        for field in ("kernel", "beta", "mean", "variance"):
            np.testing.assert_array_equal(getattr(one, field), getattr(before, field))


@pytest.mark.parametrize(
    ("taps", "bands", "words"),
    [(("mixed11",), 3, "not mixed11"), ((), 3, "not none"), (("mixed1",), 0, "at least 1, not 0")],
)
def test_an_architecture_that_cannot_be_is_refused(taps: tuple[str, ...], bands: int, words: str) -> None:
    with pytest.raises(NetworkError, match=words):
        Architecture(taps, bands)


def test_there_is_a_network_at_least() -> None:
    with pytest.raises(NetworkError, match="at least 1 Inception V3, not 0"):
        Architecture(inceptions=0)


def test_an_architecture_comes_back_from_json() -> None:
    architecture = Architecture(("mixed2", "mixed3"), bands=2, input_range=(-1.0, 1.0), shrink=(1, 2))
    of_before = {key: value for key, value in architecture.to_json().items() if key not in {"shrink", "inceptions"}}
    assert set(of_before) == set(architecture.to_json()) - {"shrink"}  # of one it is not said, so as it was before
    assert Architecture.from_json(of_before) == replace(architecture, shrink=(1, 1))
    for one in (architecture, replace(architecture, inceptions=2)):
        assert Architecture.from_json(one.to_json()) == one
    with pytest.raises(TypeError):
        Architecture.from_json({**architecture.to_json(), "pools": 3})


def test_the_names_of_layers_do_not_depend_on_what_was_built_before() -> None:
    taps = ("mixed1", "mixed10")
    first = cut_inception(taps)
    keras.applications.InceptionV3(include_top=False, weights=None, input_shape=SHAPE)
    cut_inception.cache_clear()
    assert cut_inception(taps) == first
    assert [layer["config"]["name"] for layer in first["layers"]][:3] == ["scaled", "conv2d", "batch_normalization"]
