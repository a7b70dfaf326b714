"""What lies where in the folder of a model's version: TensorFlow's files, and those that Earshot puts beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SAVED_MODEL_FILE = "saved_model.pb"
VARIABLES_FOLDER = "variables"

EXTRA_FOLDER = "assets.extra"
"""TensorFlow Serving's place for what belongs to a version and is none of TensorFlow's business."""
CLASSES_FILE = f"{EXTRA_FOLDER}/classes.txt"
"""Class names, one a line, in the order of the scores."""
SPECTROGRAM_FILE = f"{EXTRA_FOLDER}/spectrogram.json"
CARD_FILE = f"{EXTRA_FOLDER}/card.md"
WARMUP_FILE = f"{EXTRA_FOLDER}/tf_serving_warmup_requests"
"""Where TensorFlow Serving looks for them."""
TRAINING_FILE = f"{EXTRA_FOLDER}/training.json"
"""What retraining made the version from, the recordings that it saw among it."""
PROMOTION_FILE = f"{EXTRA_FOLDER}/promotion.json"
"""How a version that was made elsewhere, or before, came to its number."""
INT8_FILE = f"{EXTRA_FOLDER}/int8.json"
"""What running the network in 8 bits needs to know of its activations, and how near that is to float32."""

FILE_SCHEME = "file://"
"""What the path of a model may begin with, as TensorFlow's may."""
MOST_VERSION = 2**63 - 1
"""The highest number that the protocol can say: a folder of a higher one is no version."""


def version_folders(base_path: Path) -> dict[int, Path]:
    """The folders in `base_path` whose name is a number, by that number, whatever it is."""
    return {
        int(path.name): path
        for path in base_path.iterdir()
        if path.name.isascii() and path.name.isdecimal() and path.is_dir()
    }


def servable_folders(base_path: Path) -> dict[int, Path]:
    """Those of `version_folders` that a server could take, by number."""
    return {number: path for number, path in version_folders(base_path).items() if number <= MOST_VERSION}


def version_in(path: Path) -> Path:
    """The folder of a version that `path` means: the newest of those in it; itself where it is one, or holds none."""
    if (path / SAVED_MODEL_FILE).is_file() or not path.is_dir():
        return path
    versions = servable_folders(path)
    return versions[max(versions)] if versions else path
