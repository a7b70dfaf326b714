"""Bottlenecks: the features of every window of every clip, computed once and kept on disk.

One file a clip, named after the clip's content and all that the features depend on: a run that was killed goes on
where it was, and nothing stale is ever read. A digest of name and features ends the file, so that what is damaged or
lies under another's name is computed again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from tokenize import TokenError
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.format import read_array

from earshot.spectrogram import DEFAULT_PARAMS, SpectrogramParams
from serving.wholefile import whole_file
from training.data.contents import digests
from training.data.hearing import PRE_ROLL_S, Roles, each_heard, hear

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from serving.network import Architecture
    from training.data.clips import Clip
    from training.weights import Weights

HEARING = 3
"""Counts the ways in which clips were ever turned into windows: raise it where that changes the sound of any clip, so
that features of the old sound are not read."""


@dataclass(frozen=True, slots=True)
class Features:
    """Features of one clip."""

    rows: NDArray[np.float16]
    """Of each window, [windows, features], as they are kept."""
    roles: Roles

    @property
    def heard(self) -> NDArray[np.float32]:
        """Of the windows back to back, float32 [windows, features]."""
        return self.rows[: self.roles.heard].astype(np.float32)

    @property
    def trained(self) -> NDArray[np.float16]:
        """Of those that a head is trained on, [windows, features], as they are kept."""
        return self.rows[self.roles.trained]


class Bottlenecks:
    """Computes and keeps features for one network."""

    def __init__(
        self,
        weights: Weights,
        architecture: Architecture,
        cache: Path,
        batch: int,
        params: SpectrogramParams = DEFAULT_PARAMS,
    ) -> None:
        self._weights = weights
        self._architecture = architecture
        self._params = params
        self._cache = cache
        self._batch = batch
        self._network: Any = None
        depends = [weights.digest, architecture.to_json(), params.to_json(), PRE_ROLL_S, HEARING]
        self._depends = json.dumps(depends, sort_keys=True).encode()
        cache.mkdir(parents=True, exist_ok=True)

    def of(self, clips: list[Clip]) -> tuple[dict[Clip, Features], list[str]]:
        """Features of every clip that can be read, and a line for each that cannot."""
        features: dict[Clip, Features] = {}
        unreadable: list[str] = []
        contents = digests(clips)
        for clip, content in contents.items():
            if kept := _read(self._path(content)):
                features[clip] = kept
        missing = [clip for clip in dict.fromkeys(clips) if clip not in features]
        for clip, (images, roles) in each_heard(missing, self._images, unreadable, "bottlenecks"):
            features[clip] = Features(self._compute(images).astype(np.float16), roles)
            if clip in contents and digests([clip]).get(clip) == contents[clip]:  # else it was changed meanwhile
                _write(self._path(contents[clip]), features[clip])
        return {clip: features[clip] for clip in clips if clip in features}, unreadable

    def _path(self, content: bytes) -> Path:
        name = hashlib.sha256(self._depends + content).hexdigest()
        return self._cache / name[:2] / f"{name}.npy"

    def _images(self, clip: Clip) -> tuple[NDArray[np.uint8], Roles]:
        return hear(clip.path, self._params).images(between=False)

    def _compute(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._network is None:
            import tensorflow as tf

            from serving.network import feature_network

            network = feature_network(self._architecture, self._weights.blocks, self._params)
            self._network = tf.function(lambda values: network(values, training=False), reduce_retracing=True)
        parts = [images[start : start + self._batch] for start in range(0, len(images), self._batch)]
        return np.concatenate([self._network(part.astype(np.float32)).numpy() for part in parts])


def _write(path: Path, features: Features) -> None:
    path.parent.mkdir(exist_ok=True)
    with whole_file(path) as file:  # two runs at once may compute the same clip
        np.save(file, np.array([features.roles.heard, features.roles.whole]))
        np.save(file, features.rows)
        file.write(_digest(path, features))


def _read(path: Path) -> Features | None:
    """What is kept of a clip; None where there is nothing, or what a power cut, or a disk, left of it."""
    try:
        with path.open("rb") as file:
            heard, whole = read_array(file).tolist()
            rows = read_array(file)
            features = Features(rows, Roles(heard, whole, len(rows)))
            return features if file.read() == _digest(path, features) else None
    except (FileNotFoundError, EOFError, ValueError, TokenError):
        return None


def _digest(path: Path, features: Features) -> bytes:
    rows, roles = features.rows, features.roles
    digest = hashlib.sha256(f"{path.name} {roles.heard} {roles.whole} {rows.dtype.str} {rows.shape}".encode())
    digest.update(np.ascontiguousarray(rows).data)
    return digest.digest()
