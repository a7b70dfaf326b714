"""A version's SavedModel as OpenVINO takes it, with the SavedModel's own answers; made once, and kept in the cache.

TensorFlow makes it, in a process of its own (`conversion_process`): who only reads it needs no TensorFlow.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
import uuid
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from earshot.folders import cache_folder
from earshot.logs import get_log
from earshot.spectrogram import DEFAULT_PARAMS, SpectrogramParams
from serving.child import module_command, module_environment, signal_name
from serving.failures import CannotLoadNow
from serving.layout import SAVED_MODEL_FILE, SPECTROGRAM_FILE, VARIABLES_FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

log = get_log(__name__)

FORMAT = 2
KEPT = 16
"""Conversions that stay in the cache, those used last; one has the size of the network's weights."""

NETWORK_FILE = "network.xml"
WEIGHTS_FILE = "network.bin"
ANSWERS_FILE = "answers.npz"
ABOUT_FILE = "about.json"

UNSUPPORTED = 3
"""Exit status of `serving.engines.conversion_process` where the version is of a kind that is not converted."""
NO_ROOM = 4
"""Its exit status where memory or the disk was full."""

ABANDONED_S = 3600
"""Seconds after which a hidden folder in the cache is what a conversion that was killed has left behind."""
_LOOK_S = 0.1
"""Seconds between two looks whether a conversion is to end."""


class CannotConvert(RuntimeError):
    """A version cannot be run in OpenVINO; the message says why, and what runs it."""


class Unsupported(ValueError):
    """The version is none of those that `serving.export` writes; the message says in what. For the converter's use."""


class _Broken(ValueError):
    """An entry of the cache is not whole."""


class Kind(StrEnum):
    """What a signature takes."""

    IMAGE = "image"
    """A spectrogram, uint8 [batch, mels, frames, channels]."""
    SOUND = "sound"
    """PCM, int16 [batch, samples]."""


@dataclass(frozen=True, slots=True)
class Takes:
    """The one input of a signature."""

    kind: Kind
    name: str


@dataclass(frozen=True, slots=True)
class Converted:
    """A converted SavedModel."""

    network: Path
    """OpenVINO's model: uint8 [batch, mels, frames, channels] to `computed`, each float32 [batch, ...]."""
    signatures: Mapping[str, Takes]
    computed: Sequence[str]
    """Outputs of every signature that the network computes, in its own order."""
    repeated: Mapping[str, NDArray[Any]]
    """The others, which do not depend on what is asked, class names say: one row of each."""
    params: SpectrogramParams
    """What makes an image of a sound."""
    images: NDArray[np.uint8]
    """Those that the SavedModel was asked about, [n, mels, frames, channels]."""
    answers: Mapping[str, NDArray[np.float32]]
    """What it answered, by output: [n, ...]."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The conversion in a folder; raises _Broken where it is not whole."""
        try:
            about = json.loads((folder / ABOUT_FILE).read_text(encoding="utf-8"))
            for name, digest in about["files"].items():
                if _digest(folder / name) != digest:
                    raise _Broken(f"{name} has changed")
            with np.load(folder / ANSWERS_FILE, allow_pickle=False) as arrays:
                return cls(
                    network=folder / NETWORK_FILE,
                    signatures={name: Takes(Kind(kind), key) for name, (kind, key) in about["signatures"].items()},
                    computed=about["computed"],
                    repeated={name: arrays[f"repeated/{name}"] for name in about["repeated"]},
                    params=SpectrogramParams.from_json(about["spectrogram"]),
                    images=arrays["images"],
                    answers={name: arrays[f"answer/{name}"] for name in about["computed"]},
                )
        except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise _Broken(str(error)) from error


def convert(version_dir: Path, cache: Path | None = None, stop: threading.Event | None = None) -> Converted:
    """The version's SavedModel converted, from the folder `cache` or made and kept there; None is Earshot's.

    What is kept belongs to the content of the SavedModel and the version of OpenVINO. stop: ends a conversion under way
    when it is set. Raises CannotConvert, CannotLoadNow where it was ended or there was no room, or OSError where the
    cache cannot be written.
    """
    cache = cache or cache_folder() / "openvino"
    folder = cache / _key(version_dir)
    with suppress(FileNotFoundError):
        os.utime(folder)  # before it is read: no other process forgets it meanwhile
        try:
            return Converted.read(folder)
        except _Broken as error:
            log.warning("cached conversion is broken, making it anew", folder=str(folder), reason=str(error))
            _remove(folder)
    cache.mkdir(parents=True, exist_ok=True)
    _sweep(cache)
    log.info("converting for OpenVINO, once", version_dir=str(version_dir))
    unfinished = Path(tempfile.mkdtemp(prefix=".", dir=cache))
    try:
        _run(version_dir, unfinished, stop or threading.Event())
        try:
            unfinished.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was quicker
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    _forget_oldest(cache)
    return Converted.read(folder)


def spectrogram_params(version_dir: Path) -> SpectrogramParams:
    """The parameters that the version brings, or the project's where it brings none."""
    path = version_dir / SPECTROGRAM_FILE
    if not path.is_file():
        return DEFAULT_PARAMS
    return SpectrogramParams.from_json(json.loads(path.read_text(encoding="utf-8")))


def write_about(
    folder: Path,
    signatures: Mapping[str, Takes],
    computed: Sequence[str],
    repeated: Sequence[str],
    params: SpectrogramParams,
) -> None:
    """Write what completes a conversion whose other files are in `folder` already."""
    about = {
        "signatures": {name: (takes.kind, takes.name) for name, takes in signatures.items()},
        "computed": list(computed),
        "repeated": list(repeated),
        "spectrogram": params.to_json(),
        "files": {name: _digest(folder / name) for name in (NETWORK_FILE, WEIGHTS_FILE, ANSWERS_FILE)},
    }
    (folder / ABOUT_FILE).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _run(version_dir: Path, folder: Path, stop: threading.Event) -> None:
    module = "serving.engines.conversion_process"
    with subprocess.Popen(
        module_command(module, str(version_dir), str(folder), str(os.getpid())),
        # It needs no Keras, and TensorFlow imports Keras 3 (up to 3 s) unless it is told to look for the old one.
        env={"TF_USE_LEGACY_KERAS": "1", **module_environment()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        try:
            said = _said(process, stop).strip()
        finally:
            process.kill()
    if process.returncode == UNSUPPORTED:
        raise CannotConvert(f"{said.splitlines()[-1]}; serve it with --engine tensorflow")
    if process.returncode == NO_ROOM:
        raise CannotLoadNow(
            f"there was no room to convert {version_dir} for OpenVINO ({said.splitlines()[-1]}); it takes up to 2 GB "
            f"of memory, and a disk that has the size of its weights twice"
        )
    if process.returncode < 0:
        raise CannotLoadNow(
            f"the conversion of {version_dir} for OpenVINO was ended by {signal_name(-process.returncode)}, as it is "
            f"where memory runs out; it takes up to 2 GB. It said: {said[-2000:]}"
        )
    if process.returncode:
        raise CannotConvert(
            f"{version_dir} cannot be converted for OpenVINO (exit status {process.returncode}); serve it with "
            f"--engine tensorflow. The conversion said: {said[-2000:]}"
        )


def _said(process: subprocess.Popen[str], stop: threading.Event) -> str:
    """What the process has written to its standard error when it has ended; raises CannotLoadNow when `stop` is set."""
    while True:
        try:
            return process.communicate(timeout=_LOOK_S)[1]
        except subprocess.TimeoutExpired:
            if stop.is_set():
                raise CannotLoadNow("its conversion for OpenVINO was stopped") from None


def _key(version_dir: Path) -> str:
    digest = hashlib.sha256(f"{FORMAT} {importlib.metadata.version('openvino')}".encode())
    for path in _content(version_dir):
        digest.update(f"{path.relative_to(version_dir)} {_digest(path)}".encode())
    return digest.hexdigest()[:32]


def _content(version_dir: Path) -> Iterator[Path]:
    """The files that decide what becomes of a version."""
    yield version_dir / SAVED_MODEL_FILE
    yield from sorted((version_dir / VARIABLES_FOLDER).glob("*"))
    yield from sorted(version_dir.glob(SPECTROGRAM_FILE))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Several processes may tidy one cache at once: what is to go may be gone already, and none of it is worth a failure.


def _forget_oldest(cache: Path) -> None:
    by_use = sorted(cache.glob("[!.]*"), key=_touched_at, reverse=True)
    for folder in by_use[KEPT:]:
        with suppress(OSError):
            _remove(folder)


def _sweep(cache: Path) -> None:
    """Remove what conversions that were killed have left behind."""
    for folder in cache.glob(".*"):
        if time.time() - _touched_at(folder) > ABANDONED_S:
            shutil.rmtree(folder, ignore_errors=True)


def _remove(folder: Path) -> None:
    """Remove an entry, all of it at once for whoever looks for it."""
    aside = folder.with_name(f".{uuid.uuid4().hex}")
    with suppress(FileNotFoundError):
        folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def _touched_at(folder: Path) -> float:
    """When it was last used, in seconds since the epoch; 0 where it is gone."""
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0
