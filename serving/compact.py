"""A model in one small file: kernels in 8 bits, the rest in 16 or 32, and what belongs with them as JSON.

Kernels are stored as `minimum + step * uint8`, with a minimum and a step for each channel that comes out. Channels of
one kernel differ: some of Inception V3's hardly answer to anything, and with a step that suits the others all that is
left of these is an offset, which batch normalisation then makes large. Weights that were in this form before, or with
one minimum and step for the whole kernel, are kept to the last bit. Blocks after the last tap, which the network leaves
out, are not stored.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from earshot.spectrogram import SpectrogramParams
from serving.failures import InvalidModelFile
from serving.network import Architecture, ConvBlock, Head, build_network
from serving.wholefile import whole_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

FORMAT = 1
NOT_WHOLE = (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error)
"""What reading a file of arrays raises where it was cut short or damaged, or is something else."""
_LEVELS = 255
_NEIGHBOURS = 3
_WITHIN = (0, 1, 2)
"""Axes of a kernel within a channel that comes out."""


@dataclass(frozen=True, slots=True)
class CompactModel:
    """Everything that a SavedModel is made from."""

    architecture: Architecture
    blocks: tuple[ConvBlock, ...]
    head: Head
    class_names: tuple[str, ...]
    """In the order of the scores."""
    params: SpectrogramParams
    card: str
    """Model card, Markdown."""
    thresholds: tuple[float, ...] | None = None
    """Score of each class below which it is to be called unknown; None are all 0."""

    def network(self) -> Any:
        """The Keras model: images float32 [batch, mels, frames, channels] of 0 to 255 to scores [batch, classes]."""
        return build_network(self.architecture, self.blocks, self.head, self.params)


def save_compact(model: CompactModel, path: Path) -> None:
    """Write `model` as the file `path`, whole or not at all; raises NetworkError where it has too few blocks."""
    arrays: dict[str, NDArray[Any]] = {}
    blocks = [block for own in model.architecture.blocks_of_each(model.blocks) for block in own]
    arrays |= block_arrays(blocks)
    for number, (kernel, bias) in enumerate(model.head.layers):
        # Features that hardly vary have weights too large for 16 bits.
        half = np.abs(kernel).max(initial=0) <= np.finfo(np.float16).max
        arrays[f"head_{number}/kernel"] = kernel.astype(np.float16 if half else np.float32)
        arrays[f"head_{number}/bias"] = bias.astype(np.float32)
    about = {
        "format": FORMAT,
        "architecture": model.architecture.to_json(),
        "class_names": model.class_names,
        "spectrogram": model.params.to_json(),
        "blocks": len(blocks),
        "head_layers": len(model.head.layers),
        "card": model.card,
        "thresholds": model.thresholds,
    }
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
    with whole_file(path) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def load_compact(path: Path) -> CompactModel:
    """The model in the file `path`; raises InvalidModelFile where it does not hold one."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(arrays["about"].tobytes())
            if about["format"] != FORMAT:
                raise InvalidModelFile(f"{path} is of format {about['format']}, this Earshot reads {FORMAT}")
            blocks = blocks_from(arrays, about["blocks"])
            layers = tuple(
                (arrays[f"head_{number}/kernel"].astype(np.float32), arrays[f"head_{number}/bias"])
                for number in range(about["head_layers"])
            )
        return CompactModel(
            architecture=Architecture.from_json(about["architecture"]),
            blocks=blocks,
            head=Head(layers),
            class_names=tuple(about["class_names"]),
            params=SpectrogramParams.from_json(about["spectrogram"]),
            card=about["card"],
            thresholds=tuple(about["thresholds"]) if about.get("thresholds") else None,
        )
    except InvalidModelFile:
        raise
    except NOT_WHOLE as error:
        raise InvalidModelFile(f"{path} is not a whole model file ({error}); fetch it again") from error


def block_arrays(blocks: Sequence[ConvBlock]) -> dict[str, NDArray[Any]]:
    """The arrays that a file has of `blocks`, by name."""
    arrays: dict[str, NDArray[Any]] = {}
    for number, block in enumerate(blocks):
        low, step, levels = _quantised(block.kernel)
        arrays[f"block_{number}/kernel"] = levels
        arrays[f"block_{number}/scale"] = np.array([low, step], dtype=np.float32)
        arrays[f"block_{number}/norm"] = np.stack([block.beta, block.mean, block.variance]).astype(np.float32)
    return arrays


def blocks_from(arrays: Mapping[str, NDArray[Any]], count: int) -> tuple[ConvBlock, ...]:
    """`count` blocks from a file's arrays; raises KeyError or ValueError where they are not there."""
    blocks = []
    for number in range(count):
        low, step = arrays[f"block_{number}/scale"]
        beta, mean, variance = arrays[f"block_{number}/norm"]
        blocks.append(ConvBlock(_restored(arrays[f"block_{number}/kernel"], low, step), beta, mean, variance))
    return tuple(blocks)


def _quantised(
    kernel: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
    """Minimum and step, [] or [channels out], and levels uint8 of a kernel, from which `_restored` makes it again."""
    low, step, levels = _levelled(kernel, None)
    return (low, step, levels) if np.array_equal(_restored(levels, low, step), kernel) else _levelled(kernel, _WITHIN)


def _levelled(
    kernel: NDArray[np.float32], within: tuple[int, ...] | None
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
    """The same, with one minimum and step for all that lies `within` these axes."""
    low, high = kernel.min(axis=within), kernel.max(axis=within)
    step = np.where(high > low, (high - low) / np.float32(_LEVELS), np.float32(1.0))
    levels = np.rint((kernel - low) / step).astype(np.uint8)
    # Weights that were in this form before had one step exactly, but rounding hides which of a few it was.
    steps = [step + np.spacing(step) * np.float32(number) for number in range(-_NEIGHBOURS, _NEIGHBOURS + 1)]
    errors = [np.abs(_restored(levels, low, one) - kernel).max(axis=within) for one in steps]
    return low, np.choose(np.argmin(errors, axis=0), steps), levels


def _restored(levels: NDArray[np.uint8], low: NDArray[np.float32], step: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(levels.astype(np.float32) * step + low)
