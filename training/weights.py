"""Pretrained weights of Inception V3 as plain arrays, with the range of input values that they were trained on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from serving.compact import NOT_WHOLE, block_arrays, blocks_from, load_compact
from serving.failures import InvalidModelFile
from serving.inspection import read_json
from serving.network import BLOCKS, Architecture, ConvBlock, Head, blocks_in, blocks_needed, mean_head
from serving.starter import STARTER, STARTER_TRAINING
from serving.wholefile import whole_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray


IMAGENET, STARTER_MODEL = "imagenet", "starter"
"""Names of weights that are no file's."""
_BESIDE = "+"
_ARCHITECTURE, _HEARD, _NOTES = "architecture", "heard", "notes"
_SAYS_NOTHING = (
    "The weights do not say what they were taught by, as an older training.distil wrote them: what they have heard is "
    "taken for new, so figures may be too kind and scores too sure."
)
_OF_STARTER = (
    "The weights are those of Earshot's starter model, which heard clips of UrbanSound8K: the licence of that data "
    "goes with the model (CC BY-NC 3.0: attribution, no commercial use)."
)


class WeightsError(ValueError):
    """The pretrained weights cannot be had; the message says what to do."""


class WeightsOutOfReach(WeightsError):
    """Weights could not be downloaded, which may go better later."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A pretrained Inception V3 without its top, or several side by side."""

    blocks: tuple[ConvBlock, ...]
    """In the order in which Keras creates them, of one network after the other."""
    input_range: tuple[float, float]
    """Values for black and white."""
    name: str
    digest: str
    """Of the values, for the cache of what was computed with them."""
    architecture: Architecture | None = None
    """Of the network that was taught with them, whose features are the ones to use; None where they are of pictures."""
    readout: Head | None = None
    """The one layer that makes the teacher's answers of those features: what teaching goes on from; None where it is
    not known, as of pictures and of the starter model."""
    heard: frozenset[str] | None = frozenset()
    """Marks of the recordings that it was taught by, without labels (`training.data.heard`); None where it does not
    say."""
    notes: tuple[str, ...] = ()
    """What whoever uses a model with these weights should know."""


def load_weights(name: str) -> Weights:
    """Weights by name: `imagenet`, which Keras downloads, `starter`, those of the starter model, or a file of weights.

    Several names of weights that were taught alike, joined by +, are networks side by side.
    Keras's is an .h5 of its Inception V3 without the top, as it downloads it; its images are -1 to 1. The others are
    what `save_weights` wrote, and an .npz with `conv2d_K/kernel` and `batch_normalization_K/{beta,moving_mean,
    moving_variance}` for K from 1 to 94, each as `:q` (uint8) and `:ms` (minimum, step), whose images are 0 to 1.
    Raises WeightsError.
    """
    names = _joined(name, _BESIDE)
    if len(names) > 1:
        return _beside(names)
    path = Path(name)
    if name not in {IMAGENET, STARTER_MODEL} and not path.is_file():
        raise WeightsError(
            f"{path} is no file; weights are {IMAGENET}, {STARTER_MODEL}, or a file of weights, or several joined by +"
        )
    if name == STARTER_MODEL:
        return _starter()
    return _keras(name) if name == IMAGENET or path.suffix == ".h5" else _file(path)


def load_averaged(names: str) -> Weights:
    """The mean of weights by their names, as `load_weights` takes each, joined by commas; raises WeightsError."""
    return averaged([load_weights(name) for name in _joined(names, ",")])


def averaged(several: Sequence[Weights]) -> Weights:
    """The mean of weights that were all taught on from the same ones (model soups, Wortsman et al. 2022).

    One is its own mean. Raises WeightsError where they are of several networks, or two are the same.
    """
    first, *others = several
    if not others:
        return first
    for number, one in enumerate(several):
        if one.architecture is None or one.architecture != first.architecture:
            raise WeightsError(
                f"{one.name} was not taught for sound in the network of {first.name}; what is averaged was taught on "
                "from the same weights, with the same --last and --shrink"
            )
        if one.digest in {other.digest for other in several[:number]}:
            raise WeightsError(f"{one.name} has the same weights as another, and adds nothing; name it once")
    blocks = tuple(_mean_block(own) for own in zip(*(one.blocks for one in several), strict=True))
    readouts = _readouts_of(several)
    layers = [_mean(values) for values in zip(*(one.layers[0] for one in readouts), strict=True)]
    return _weights(
        ",".join(one.name for one in several),
        blocks,
        first.input_range,
        architecture=first.architecture,
        readout=Head(((layers[0], layers[1]),)) if readouts else None,
        heard=_heard_by(several),
        notes=_notes_of(several),
    )


def calibrating_weights(names: Sequence[str], weights: Weights) -> list[Weights]:
    """Weights by their `names`, which were taught like `weights`; raises WeightsError."""
    loaded = [load_weights(name) for name in names]
    found = list({(one.digest, one.heard): one for one in loaded}.values())  # each once, whatever it is called
    for one in found:
        if one.architecture != weights.architecture:
            raise WeightsError(
                f"{one.name} is of another network than {weights.name}; --calibrate-by takes what was taught with the "
                "same --last and --shrink, as many joined by + as in --weights"
            )
        if one.heard is None:
            raise WeightsError(
                f"{one.name} does not say what it has heard; --calibrate-by takes what training.distil writes"
            )
    return found


def digest_of(blocks: Sequence[ConvBlock], before: bytes = b"", *after: NDArray[Any]) -> str:
    """A digest of the values of `blocks`, and of what goes before and after them."""
    digest = hashlib.sha256(before)
    arrays = (values for block in blocks for values in (block.kernel, block.beta, block.mean, block.variance))
    for values in (*arrays, *after):
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def save_weights(
    blocks: Sequence[ConvBlock],
    architecture: Architecture,
    readout: Head,
    path: Path,
    heard: Iterable[str] | None,
    notes: Sequence[str] = (),
) -> None:
    """Write `blocks`, taught in this architecture together with `readout`, as the file `path`, whole or not at all.

    heard: marks of what they were taught by; None where that is not known. notes: for whoever uses them.
    """
    arrays = block_arrays(blocks)
    arrays |= {_ARCHITECTURE: _as_array(architecture.to_json()), _NOTES: _as_array(list(notes))}
    if heard is not None:
        arrays[_HEARD] = _as_array(sorted(heard))
    ((kernel, bias),) = readout.layers
    arrays |= {"readout/weights": kernel.astype(np.float16), "readout/bias": bias.astype(np.float32)}
    with whole_file(path) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _weights(name: str, blocks: tuple[ConvBlock, ...], input_range: tuple[float, float], **more: Any) -> Weights:
    for number, block in enumerate(blocks, start=1):
        channels = block.kernel.shape[-1:]
        values = {"beta": block.beta, "moving mean": block.mean, "moving variance": block.variance}
        for which, one in values.items():
            if one.shape != channels:
                raise WeightsError(
                    f"{name}: the {which} of convolution {number} has the shape {one.shape}, not {channels}; fetch or "
                    "make the file again"
                )
        if not all(np.isfinite(one).all() for one in (block.kernel, *values.values())):
            raise WeightsError(f"{name}: convolution {number} has values that are no numbers; fetch or make it again")
    return Weights(blocks, input_range, Path(name).name, digest_of(blocks, repr(input_range).encode()), **more)


def _joined(name: str, sign: str) -> list[str]:
    """The names that `name` joins by `sign`; that of a file, or of a folder, may have the sign in it."""
    names: list[str] = []
    rest: str | None = None
    for part in name.split(sign):
        rest = part if rest is None else f"{rest}{sign}{part}"
        if rest in {IMAGENET, STARTER_MODEL} or Path(rest).is_file():
            names.append(rest)
            rest = None
    return names if rest is None else [*names, rest]


def _beside(names: Sequence[str]) -> Weights:
    """Networks side by side, each on weights of its own."""
    several: list[Weights] = []
    for name in names:
        if not name:
            raise WeightsError(f"no weights are named after the last {_BESIDE}")
        one = None if name == IMAGENET else load_weights(name)
        if one is None or one.architecture is None:
            raise WeightsError(f"{name} was not taught for sound; only weights that were go side by side")
        if several and one.architecture != several[0].architecture:
            raise WeightsError(
                f"{name} is of another network than {names[0]}; only what was taught with the same --last and --shrink "
                "goes side by side"
            )
        if one.digest in {other.digest for other in several}:
            raise WeightsError(f"{name} has the same weights as another beside it, and adds nothing; name it once")
        several.append(one)
    architectures = [one.architecture for one in several if one.architecture]
    readouts = _readouts_of(several)
    return Weights(
        tuple(block for one in several for block in one.blocks),
        several[0].input_range,
        _BESIDE.join(one.name for one in several),
        hashlib.sha256(" ".join(one.digest for one in several).encode()).hexdigest(),
        replace(architectures[0], inceptions=sum(one.inceptions for one in architectures)),
        mean_head(readouts) if readouts else None,
        _heard_by(several),
        _notes_of(several),
    )


def _readouts_of(several: Sequence[Weights]) -> list[Head]:
    """What each says as its teacher; none where one does not know it, or two teachers say other things."""
    readouts = [one.readout for one in several if one.readout]
    return readouts if len(readouts) == len(several) and len({one.classes for one in readouts}) == 1 else []


def _heard_by(several: Sequence[Weights]) -> frozenset[str] | None:
    heard = [one.heard for one in several if one.heard is not None]
    return frozenset().union(*heard) if len(heard) == len(several) else None


def _notes_of(several: Sequence[Weights]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(note for one in several for note in one.notes))


def _mean_block(blocks: Sequence[ConvBlock]) -> ConvBlock:
    return ConvBlock(
        _mean([one.kernel for one in blocks]),
        _mean([one.beta for one in blocks]),
        _mean([one.mean for one in blocks]),
        _mean([one.variance for one in blocks]),
    )


def _mean(values: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.asarray(np.mean(values, axis=0), dtype=np.float32)


def _starter() -> Weights:
    try:
        model = load_compact(STARTER)
    except InvalidModelFile as error:
        raise WeightsError(str(error)) from error
    record, own = read_json(STARTER_TRAINING), model.architecture
    if not isinstance(record.get("heard"), list):
        raise WeightsError(f"{STARTER_TRAINING} is not there or not whole; fetch it again")
    more = {"heard": frozenset(record["heard"]), "notes": (_OF_STARTER,)}
    return _weights(STARTER_MODEL, model.blocks, own.input_range, architecture=own, **more)


def _keras(weights: str) -> Weights:
    import keras

    try:
        network = keras.applications.InceptionV3(include_top=False, weights=weights)
    except Exception as error:  # Keras raises a bare Exception where it cannot download, and others for a broken file
        if weights != IMAGENET:
            raise WeightsError(f"{weights} holds no Inception V3 of Keras's without its top ({error})") from error
        kind = WeightsError if isinstance(error, OSError) else WeightsOutOfReach  # the disk is full, or not writable
        raise kind(
            f"Keras could not download the ImageNet weights ({error}); try again, or name its file, which ends in "
            "_notop.h5, instead"
        ) from error
    return _weights(weights, tuple(blocks_in(network)), (-1.0, 1.0))


def _file(path: Path) -> Weights:
    more: dict[str, Any] = {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if _ARCHITECTURE in arrays:
                more = _taught(arrays)
                own = more["architecture"]
                blocks, input_range = blocks_from(arrays, own.inceptions * blocks_needed(own.taps)), own.input_range
            else:
                blocks, input_range = tuple(_block(arrays, number) for number in range(1, BLOCKS + 1)), (0.0, 1.0)
    except NOT_WHOLE as error:
        raise WeightsError(f"{path} holds no Inception V3 in 8 bit form ({error})") from error
    return _weights(path.name, blocks, input_range, **more)


def _taught(arrays: Any) -> dict[str, Any]:
    """What `save_weights` wrote beside the blocks, as `Weights` has it."""
    notes = json.loads(arrays[_NOTES].tobytes()) if _NOTES in arrays else []
    if _HEARD not in arrays:
        notes = list(dict.fromkeys([*notes, _SAYS_NOTHING]))
    return {
        "architecture": Architecture.from_json(json.loads(arrays[_ARCHITECTURE].tobytes())),
        "readout": Head(((arrays["readout/weights"].astype(np.float32), arrays["readout/bias"]),)),
        "heard": frozenset(json.loads(arrays[_HEARD].tobytes())) if _HEARD in arrays else None,
        "notes": tuple(notes),
    }


def _as_array(value: Any) -> NDArray[np.uint8]:
    """A value of JSON as an array, as files of arrays keep it."""
    return np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)


def _block(arrays: Any, number: int) -> ConvBlock:
    def values(name: str) -> NDArray[np.float32]:
        minimum, step = arrays[f"{name}:ms"]
        return np.asarray(arrays[f"{name}:q"].astype(np.float32) * np.float32(step) + np.float32(minimum))

    norm = f"batch_normalization_{number}"
    kernel = values(f"conv2d_{number}/kernel")
    return ConvBlock(kernel, values(f"{norm}/beta"), values(f"{norm}/moving_mean"), values(f"{norm}/moving_variance"))
