"""Runs an exported version in OpenVINO, in float32, bfloat16 or 8 bits, once its answers are near the SavedModel's own.

OpenVINO is quicker than TensorFlow on a CPU the fewer bits it is given (`python -m benchmarks.engines`).
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from serving.engines.conversion import Kind, convert
from serving.engines.first_convolution import read_as_it_came
from serving.engines.int8 import Int8, quantised
from serving.engines.openvino_core import CORE
from serving.engines.openvino_network import Compiled, CompiledNetwork, short_of_memory
from serving.failures import CannotLoadNow
from serving.modelserver.errors import ServingError, invalid
from serving.modelserver.signatures import check_shape
from serving.saved_model import read_signatures

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import openvino as ov
    from numpy.typing import NDArray

    from serving.engines.int8 import Calibration

_DEVICE = "CPU"


class Precision(StrEnum):
    """What OpenVINO computes in."""

    F32 = "f32"
    BF16 = "bf16"
    INT8 = "int8"
    """Convolutions in 8 bits, the rest in float32."""


BOUNDS = {Precision.F32: 1e-4, Precision.BF16: 0.15, Precision.INT8: 0.2}
"""How far a score may be from the SavedModel's. Of 1,761 clips, two folds that the model had not seen, the farthest was
0.000002 in float32 and 0.05 to 0.08 in bfloat16 and 8 bits: what is far beyond that is no rounding."""


def computes_bf16() -> bool:
    """Whether this CPU computes in bfloat16."""
    return "BF16" in CORE.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")


class CannotRun(RuntimeError):
    """This CPU cannot compute in the precision asked for; the message says in which it can."""


class AnswersDiffer(ValueError):
    """OpenVINO's answers are too far from the SavedModel's; the message says how far, and what to do."""


class OpenVinoEngine:
    """One loaded version, and OpenVINO to run it."""

    def __init__(
        self,
        version_dir: Path,
        precision: Precision,
        cache: Path | None = None,
        *,
        threads: int = 0,
        calibration: Calibration | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        """Load the version, which is converted first where the folder `cache`, or else Earshot's, has it not.

        threads: of OpenVINO for batches, and as many for single images; 0 is one for each core. calibration:
        for 8 bits; None is what the version brings. stop: ends a conversion when it is set. Raises CannotRun,
        NotQuantised, CannotConvert, CannotLoadNow, AnswersDiffer, OSError where the cache cannot be written, or
        what else OpenVINO fails with.
        """
        if precision is Precision.BF16 and not computes_bf16():
            raise CannotRun("this CPU does not compute in bfloat16; serve with --precision f32 or int8")
        if precision is Precision.INT8 and calibration is None:
            calibration = Int8.read(version_dir).calibration
        self._converted = convert(version_dir, cache, stop)
        self.signature_defs = read_signatures(version_dir)
        try:
            # OpenVINO maps the file into memory, so it may be compiled anew when the cache has forgotten it.
            network = CORE.read_model(self._converted.network)
            self._network = CompiledNetwork(lambda: _compiled(network, precision, calibration, threads))
            self._pool = ThreadPoolExecutor(self._network.streams, "spectrograms")
            try:
                self._require_near(precision)
            except BaseException:
                self.close()
                raise
        except (RuntimeError, ServingError) as error:
            if short_of_memory(error):
                raise CannotLoadNow(str(error)) from error
            raise

    def run(
        self, signature: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> dict[str, NDArray[Any]]:
        """The outputs asked for, by name, of inputs by name; several threads may call it at once.

        Raises ServingError where shapes are not the signature's, or the network fails: see `CompiledNetwork.compute`.
        """
        if signature not in self._converted.signatures:  # what initialises a model stands beside them
            raise invalid(f"{signature} is none of the signatures that OpenVINO runs")
        takes = self._converted.signatures[signature]
        values = inputs[takes.name]
        check_shape(takes.name, self.signature_defs[signature].inputs[takes.name].tensor_shape, values.shape)
        if not set(outputs) <= self._converted.repeated.keys():
            computed = self._compute(self._images(values) if takes.kind is Kind.SOUND else values)
        return {
            name: computed[name] if name in self._converted.computed else self._repeat(name, len(values))
            for name in outputs
        }

    def close(self) -> None:
        """Let go of the network's memory; nothing may run any more."""
        self._pool.shutdown()
        self._network.close()

    def _compute(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """What the network computes of uint8 [batch, mels, frames, channels], by output: float32 [batch, ...]."""
        if not len(images):  # which OpenVINO refuses
            return {name: rows[:0] for name, rows in self._converted.answers.items()}
        return dict(zip(self._converted.computed, self._network.compute(images), strict=True))

    def _images(self, pcm: NDArray[np.int16]) -> NDArray[np.uint8]:
        """Spectrograms uint8 [batch, mels, frames, channels] of int16 [batch, samples]."""
        from earshot.spectrogram import spectrogram

        images = np.empty((len(pcm), *self._converted.images.shape[1:]), dtype=np.uint8)
        made = self._pool.map(lambda sound: spectrogram(sound, self._converted.params), pcm)
        for image, spectrum in zip(images, made, strict=True):
            image[:] = spectrum
        return images

    def _repeat(self, name: str, rows: int) -> NDArray[Any]:
        row = self._converted.repeated[name]
        row = row.astype(object) if row.dtype.kind == "S" else row  # strings as TensorFlow gives them
        return np.repeat(row[np.newaxis], rows, axis=0)

    def _require_near(self, precision: Precision) -> None:
        """Raise AnswersDiffer unless the images that the SavedModel was asked about are answered as it answered."""
        images = self._converted.images
        times = math.ceil(2 * self._network.streams / len(images))  # so that each stream gets more than one
        together = self._compute(np.concatenate([images] * times))
        one_by_one = [self._compute(image[np.newaxis]) for image in images]
        apart = np.max(  # NaN where any is
            [
                np.abs(rows - own).max()
                for name, own in self._converted.answers.items()
                for rows in (*np.split(together[name], times), np.concatenate([one[name] for one in one_by_one]))
            ]
        )
        if not apart <= BOUNDS[precision]:
            other = "--engine tensorflow" if precision is Precision.F32 else "--precision f32"
            raise AnswersDiffer(
                f"in {precision} its answers are up to {apart:.5f} from the SavedModel's, and at most "
                f"{BOUNDS[precision]} is rounding; serve it with {other}"
            )


def _compiled(network: ov.Model, precision: Precision, calibration: Calibration | None, threads: int) -> Compiled:
    """A converted network, which stays as it is, compiled for a precision."""
    if precision is Precision.INT8 and calibration is not None:
        network = quantised(network, calibration)
    else:
        network = network.clone()
    read_as_it_came(network)
    return compile_network(network, precision, threads)


def compile_network(network: ov.Model, precision: Precision, threads: int = 0) -> Compiled:
    """`network`, quantised if it is to be, compiled; threads: of each of the two, 0 is one for each core."""
    properties = {
        # Streams, each with threads of its own: a batch is divided among them, which nothing has to wait for.
        "PERFORMANCE_HINT": "THROUGHPUT",
        # On one core each they wait where another process has that core, though others be idle.
        "ENABLE_CPU_PINNING": False,
        # Without it OpenVINO takes bfloat16 by itself where the CPU has it.
        "INFERENCE_PRECISION_HINT": "bf16" if precision is Precision.BF16 else "f32",
        **({"INFERENCE_NUM_THREADS": threads} if threads else {}),
    }
    several = CORE.compile_model(network, _DEVICE, properties)
    streams = several.get_property("NUM_STREAMS")
    return Compiled(
        several, CORE.compile_model(_of_one_image(network), _DEVICE, {**properties, "NUM_STREAMS": streams})
    )


def _of_one_image(network: ov.Model) -> ov.Model:
    single = network.clone()
    shape = single.input().get_partial_shape()
    shape[0] = 1
    single.reshape(shape)
    return single
