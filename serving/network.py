"""The network: Inception V3 up to its tapped blocks, their features pooled in frequency bands, and a head over those.

It may be several Inception V3s side by side on the same image, each with weights of its own: a head has the features of
all.

Everything that happens to an image happens inside one Keras model, so a server needs nothing but that model: turning
low frequencies to the bottom, scaling to the range that the weights were trained with, pooling and the head. Blocks
after the last tap are left out. The weights themselves are plain arrays (`ConvBlock`, `Head`), whatever file they
come from.
"""

from __future__ import annotations

import itertools
import re
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from earshot.spectrogram import DEFAULT_PARAMS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from earshot.spectrogram import SpectrogramParams

BLOCKS = 94
"""Convolutions of Inception V3 without its top, each followed by batch normalisation."""

CHANNELS = {
    f"mixed{number}": channels
    for number, channels in enumerate((256, 288, 288, 768, 768, 768, 768, 768, 1280, 2048, 2048))
}
"""Channels of each block."""

TAPS = tuple(CHANNELS)
"""Blocks whose output can be tapped, the first one lowest."""

INCEPTION = "inception_v3"
"""What the layer of a network that is an Inception V3 is called, with a number from the second on."""

POOLS = ("mean", "max")
"""What is taken of each band and channel, over time and the rows of the band, in the order of the features: operations
of keras.ops."""


class NetworkError(ValueError):
    """Weights and architecture do not fit one another; the message says which part and what it should have been."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """Which features of Inception V3 a network uses, and how its images must be scaled for it."""

    taps: tuple[str, ...] = ("mixed5",)
    """Blocks whose features are used, from `TAPS`."""
    bands: int = 3
    """Frequency bands that features are pooled in, apart from one another."""
    input_range: tuple[float, float] = (0.0, 1.0)
    """Values that the weights expect for the image's 0 and 255."""
    shrink: tuple[int, int] = (1, 1)
    """Mel bands and frames that are averaged into one before the first convolution: (2, 2) is four times as quick."""
    inceptions: int = 1
    """Inception V3s side by side; their blocks come one Inception V3 after the other, and as many of each."""

    def __post_init__(self) -> None:
        unknown = [tap for tap in self.taps if tap not in TAPS]
        if unknown or not self.taps:
            raise NetworkError(f"taps must be some of {', '.join(TAPS)}, not {', '.join(unknown) or 'none'}")
        if self.bands < 1:
            raise NetworkError(f"bands must be at least 1, not {self.bands}")
        if min(self.shrink) < 1:
            raise NetworkError(f"an image is shrunk by 1 or more, not {self.shrink}")
        if self.inceptions < 1:
            raise NetworkError(f"there must be at least 1 Inception V3, not {self.inceptions}")

    @property
    def widths(self) -> tuple[int, ...]:
        """Features of each tap, of one Inception V3 after the other."""
        return tuple(CHANNELS[tap] * self.bands * len(POOLS) for tap in self.taps) * self.inceptions

    def blocks_of_each(self, blocks: Sequence[ConvBlock]) -> list[Sequence[ConvBlock]]:
        """`blocks` divided among the Inception V3s, without those after the last tap; NetworkError where some lack."""
        each, over = divmod(len(blocks), self.inceptions)
        needed = blocks_needed(self.taps)
        if each < needed or over:
            asked, held = f"{', '.join(self.taps)} need {needed} blocks", f"the weights hold {len(blocks)}"
            if self.inceptions == 1:
                raise NetworkError(f"{asked}, {held}")
            raise NetworkError(f"{asked} of each of {self.inceptions} Inception V3s, {held} in all")
        return [blocks[number * each :][:needed] for number in range(self.inceptions)]

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `from_json` takes back."""
        values = asdict(self)
        if self.inceptions == 1:  # as it was before there could be more: older caches and programs know it
            del values["inceptions"]
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The architecture of `to_json`'s dictionary; TypeError where a key is unknown."""
        low, high = values["input_range"]
        rows, columns = values.get("shrink", (1, 1))  # models made before it was a choice lack it
        return cls(
            **{
                **values,
                "taps": tuple(values["taps"]),
                "input_range": (float(low), float(high)),
                "shrink": (int(rows), int(columns)),
            }
        )


@dataclass(frozen=True, slots=True)
class ConvBlock:
    """One convolution of Inception V3 and the batch normalisation after it, float32."""

    kernel: NDArray[np.float32]
    """[height, width, channels in, channels out]"""
    beta: NDArray[np.float32]
    """[channels out]; there is no gamma."""
    mean: NDArray[np.float32]
    """[channels out]"""
    variance: NDArray[np.float32]
    """[channels out]"""


@dataclass(frozen=True, slots=True)
class Head:
    """Dense layers over the pooled features, ReLU between them, softmax after the last; scaling is in the first."""

    layers: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]
    """(kernel [features in, features out], bias [features out]) of each layer."""

    @property
    def features(self) -> int:
        """Features that the head takes."""
        return int(self.layers[0][0].shape[0])

    @property
    def classes(self) -> int:
        """Scores that the head gives."""
        return int(self.layers[-1][1].shape[0])

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Softmax scores float32 [n, classes] of `features` [n, features], as the network computes them."""
        for number, (kernel, bias) in enumerate(self.layers):
            features = (np.maximum(features, 0.0) if number else features) @ kernel + bias
        powers = np.exp(features - features.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def mean_head(heads: Sequence[Head]) -> Head:
    """One layer whose outputs, before softmax, are the mean of what each head, of one layer, says of its own features.

    The features are those of one head after the other.
    """
    kernels, biases = zip(*(head.layers[0] for head in heads), strict=True)
    kernel, bias = np.concatenate(kernels) / len(heads), np.mean(biases, axis=0)
    return Head(((kernel.astype(np.float32), bias.astype(np.float32)),))


def feature_network(
    architecture: Architecture, blocks: Sequence[ConvBlock], params: SpectrogramParams = DEFAULT_PARAMS
) -> Any:
    """Keras model: images float32 [batch, mels, frames, 3] of 0 to 255, to pooled features float32 [batch, features].

    `blocks` are in the order in which Keras creates them; those after the last tap may be missing. The features are
    ordered by Inception V3, then tap, then band from low to high frequency, then `POOLS`, then channel.
    """
    import keras

    image = keras.Input((params.mels, params.frames(), params.channels), name="image")
    low, high = architecture.input_range
    small = keras.layers.AveragePooling2D(architecture.shrink)(image) if max(architecture.shrink) > 1 else image
    scaled = keras.layers.Rescaling((high - low) / 255.0, low)(keras.ops.flip(small, axis=1))
    pooled = []
    for number, own in enumerate(architecture.blocks_of_each(blocks), start=1):
        inception = _inception(architecture.taps, own, INCEPTION if number == 1 else f"{INCEPTION}_{number}")
        try:
            tapped = inception(scaled)
        except ValueError as error:
            rows, columns = small.shape[1:3]
            raise NetworkError(f"images of {rows} x {columns} are too small for {architecture.taps[-1]}") from error
        tapped = tapped if isinstance(tapped, list) else [tapped]
        pooled += [_pool(block, architecture.bands) for block in tapped]
    return keras.Model(image, keras.ops.concatenate(pooled, axis=-1), name="features")


def build_network(
    architecture: Architecture,
    blocks: Sequence[ConvBlock],
    head: Head,
    params: SpectrogramParams = DEFAULT_PARAMS,
) -> Any:
    """Keras model: images float32 [batch, mels, frames, 3] of 0 to 255, to softmax scores float32 [batch, classes].

    Raises NetworkError where the weights do not fit the architecture.
    """
    import keras

    features = feature_network(architecture, blocks, params)
    if features.output_shape[1] != head.features:
        raise NetworkError(f"the head takes {head.features} features, the network makes {features.output_shape[1]}")
    values = features.output
    dense = []
    for number, (_, bias) in enumerate(head.layers):
        last = number == len(head.layers) - 1
        layer = keras.layers.Dense(len(bias), activation="softmax" if last else "relu", name=f"head_{number}")
        values = layer(values)
        dense.append(layer)
    for layer, (kernel, bias) in zip(dense, head.layers, strict=True):
        layer.set_weights([kernel, bias])
    return keras.Model(features.input, values, name="earshot")


def blocks_needed(taps: Sequence[str]) -> int:
    """How many blocks, in the order of creation, an Inception V3 cut after the last of `taps` has."""
    # Blocks of the stem, then of mixed0 to mixed10.
    blocks = (5, 7, 7, 7, 4, 10, 10, 10, 10, 6, 9, 9)
    return sum(blocks[: 2 + max(TAPS.index(tap) for tap in taps)])


def creation_order(layers: Sequence[Any]) -> list[Any]:
    """Layers of one kind in the order in which Keras created (and numbered) them; a model lists them by depth."""

    def number(layer: Any) -> int:
        found = re.search(r"_(\d+)$", layer.name)
        return int(found[1]) if found else 0

    return sorted(layers, key=number)


def _inception(taps: Sequence[str], blocks: Sequence[ConvBlock], name: str) -> Any:
    """Inception V3 from a scaled image to the outputs of `taps`, filled with `blocks`, none more than it has."""
    import keras

    config = deepcopy(cut_inception(tuple(taps))) | {"name": name}  # Keras takes its argument apart
    network = keras.Model.from_config(config)
    convolutions, norms = conv_layers(network)
    if len(convolutions) != len(blocks) or len(norms) != len(convolutions):
        raise NetworkError(f"this Keras builds an Inception V3 of {len(convolutions)} blocks up to {taps[-1]}")
    for number, (convolution, norm, block) in enumerate(zip(convolutions, norms, blocks, strict=True), start=1):
        if convolution.kernel.shape != block.kernel.shape:
            raise NetworkError(
                f"kernel {number} has the shape {block.kernel.shape}, not {tuple(convolution.kernel.shape)}"
            )
        convolution.set_weights([block.kernel])
        norm.set_weights([block.beta, block.mean, block.variance])
    return network


@lru_cache(maxsize=8)
def cut_inception(taps: tuple[str, ...]) -> dict[str, Any]:
    """Keras's configuration of an Inception V3 that ends with its `taps`: building the whole of it takes seconds."""
    import keras

    # Of any size: Keras refuses sizes below 75, which are too small only for the last blocks.
    image = keras.Input((None, None, 3), name="scaled")
    whole = keras.applications.InceptionV3(include_top=False, weights=None, input_tensor=image)
    cut = keras.Model(image, [whole.get_layer(tap).output for tap in taps], name=INCEPTION)
    # Keras counts on from one network to the next, and TensorFlow adds gradients up in the order of names: what a
    # network learns would differ in its last bits by what had been built before it in the process.
    names: dict[str, str] = {}
    for kind in {type(layer) for layer in cut.layers}:
        own = [layer.name for layer in creation_order([layer for layer in cut.layers if type(layer) is kind])]
        for number, name in enumerate(name for name in own if not name.startswith("mixed")):
            names[name] = re.sub(r"_\d+$", "", name) + (f"_{number}" if number else "")
    return dict(_renamed(cut.get_config(), names))


def _renamed(config: Any, names: Mapping[str, str]) -> Any:
    """Keras's configuration of a network whose layers have other names."""
    if isinstance(config, dict):
        return {key: _renamed(value, names) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(_renamed(value, names) for value in config)
    return names.get(config, config) if isinstance(config, str) else config


def inception_layers(network: Any) -> list[Any]:
    """The layers of a `feature_network` or `build_network` that are its Inception V3s, in order."""
    return creation_order([layer for layer in network.layers if re.fullmatch(rf"{INCEPTION}(_\d+)?", layer.name)])


def blocks_of(network: Any) -> tuple[ConvBlock, ...]:
    """The blocks of a `feature_network` or `build_network` as they are now, trained further, say."""
    return tuple(block for inception in inception_layers(network) for block in blocks_in(inception))


def blocks_in(inception: Any) -> list[ConvBlock]:
    """The blocks of one Inception V3, or of any Keras model of such blocks, in the order of creation."""
    return [
        ConvBlock(convolution.get_weights()[0], *norm.get_weights())
        for convolution, norm in zip(*conv_layers(inception), strict=True)
    ]


def conv_layers(network: Any) -> tuple[list[Any], list[Any]]:
    """Convolutions and batch normalisations of an Inception V3, in the order of creation."""
    import keras

    kinds = (keras.layers.Conv2D, keras.layers.BatchNormalization)
    convolutions, norms = (
        creation_order([layer for layer in network.layers if isinstance(layer, kind)]) for kind in kinds
    )
    return convolutions, norms


def _pool(block: Any, bands: int) -> Any:
    """`POOLS` of each of `bands` parts of the rows of `block`, the last rows first, joined.

    block: [batch, rows, columns, channels]
    """
    import keras

    rows = block.shape[1]
    if bands > rows:
        raise NetworkError(f"{bands} bands do not fit into the {rows} rows of a tapped block")
    edges = [round(part * rows / bands) for part in range(bands + 1)]
    pooled = []
    for low, high in itertools.pairwise(edges):
        part = block[:, rows - high : rows - low]  # the image was turned: low frequencies are below
        pooled += [getattr(keras.ops, pool)(part, axis=(1, 2)) for pool in POOLS]
    return keras.ops.concatenate(pooled, axis=-1)
