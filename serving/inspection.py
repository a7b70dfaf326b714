"""What one version's folder tells without TensorFlow: whether it is whole, how good it is, where it comes from."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from serving.layout import CLASSES_FILE, INT8_FILE, PROMOTION_FILE, SAVED_MODEL_FILE, TRAINING_FILE, VARIABLES_FOLDER

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)

_SHARD = re.compile(r"variables\.data-(\d+)-of-(\d+)")


@dataclass(frozen=True, slots=True)
class Version:
    """One version, as its files tell."""

    number: int
    folder: Path
    lacks: str
    """What it needs and has not; empty where it is whole."""
    made: datetime
    """When it was trained, or else its graph written."""
    classes: int | None
    """How many it tells apart, `unknown` counted where it is one of them; None where it does not say."""
    accuracy: float | None
    """Share of first 3 s named right in `judged_on`; None where it does not say."""
    judged_on: str
    """"held out": clips that this version did not learn from; "folds": its recipe on such ones; empty: no accuracy."""
    judged_clips: int
    """How many these were."""
    judged_heard: int
    """How many of them its weights have heard, without their labels, which makes the accuracy too kind."""
    size_bytes: int
    in_8_bits: bool
    """Whether it brings what it takes to be served in 8 bits."""
    again: int | None
    """The version that it is once more, after a rollback."""
    forced: bool
    """Whether it was published though something was amiss."""

    @classmethod
    def read(cls, number: int, folder: Path) -> Self:
        """The version in `folder`."""
        training, promotion = read_json(folder / TRAINING_FILE), read_json(folder / PROMOTION_FILE)
        accuracy, judged_on, judged_clips, judged_heard = _accuracy(training)
        graph = folder / SAVED_MODEL_FILE
        written = datetime.fromtimestamp((graph if graph.exists() else folder).stat().st_mtime, UTC)
        classes = class_names(folder)
        return cls(
            number=number,
            folder=folder,
            lacks=missing_files(folder),
            made=_made(training) or written,
            classes=None if classes is None else len(classes),
            accuracy=accuracy,
            judged_on=judged_on,
            judged_clips=judged_clips,
            judged_heard=judged_heard,
            size_bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
            in_8_bits=(folder / INT8_FILE).is_file(),
            again=promotion.get("again"),
            forced=_forced(promotion),
        )


def recordings_seen(version_dir: Path) -> frozenset[str] | None:
    """Recordings that a version was trained on; None where it does not say."""
    recordings = read_json(version_dir / TRAINING_FILE).get("recordings")
    return frozenset(map(str, recordings)) if isinstance(recordings, list) else None


def class_names(version_dir: Path) -> list[str] | None:
    """What a version tells apart, in the order of its scores; None where it does not say."""
    try:
        return (version_dir / CLASSES_FILE).read_text(encoding="utf-8").splitlines()
    except (*_ABSENT, UnicodeDecodeError):
        return None


def sounds_heard(version_dir: Path) -> frozenset[str] | None:
    """Marks of the sounds that a version's weights were taught by without labels; None where it does not say."""
    heard = read_json(version_dir / TRAINING_FILE).get("heard")
    return frozenset(map(str, heard)) if isinstance(heard, list) else None


def notes_of_weights(version_dir: Path) -> list[str]:
    """What whoever uses a version should know of its weights, as it says."""
    notes = read_json(version_dir / TRAINING_FILE).get("notes_of_weights")
    return list(map(str, notes)) if isinstance(notes, list) else []


def missing_files(version_dir: Path) -> str:
    """What the folder of a version needs and has not, in words; empty where it is whole.

    A folder that somebody copies file by file is not whole before the last one; whether each file is, cannot be seen.
    """
    graph = version_dir / SAVED_MODEL_FILE
    if not graph.is_file() or not graph.stat().st_size:
        return SAVED_MODEL_FILE
    folder = version_dir / VARIABLES_FOLDER
    index = folder / "variables.index"
    if not index.is_file() or not index.stat().st_size:
        return f"{VARIABLES_FOLDER}/{index.name}"
    shards = [found.groups() for path in folder.iterdir() if (found := _SHARD.fullmatch(path.name))]
    wanted = max((int(total) for _, total in shards), default=1)
    if len(shards) < wanted:
        return f"{wanted - len(shards)} of {wanted} files {VARIABLES_FOLDER}/variables.data-*"
    return ""


def timestamp(moment: datetime, timespec: str = "seconds") -> str:
    """A moment as Earshot's files have it, to the second or to another `timespec` of `isoformat`."""
    return moment.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file of a version; empty where there is none, or what is no object."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (*_ABSENT, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _forced(promotion: Mapping[str, Any]) -> bool:
    """Whether a version was published by force, or is once more one that was."""
    while promotion.get("event") == "rollback" and isinstance(promotion.get("before"), dict):
        promotion = promotion["before"]
    return promotion.get("forced") is True


def _made(training: Mapping[str, Any]) -> datetime | None:
    try:
        return datetime.fromisoformat(training["made"])
    except (KeyError, TypeError, ValueError):
        return None


def _accuracy(training: Mapping[str, Any]) -> tuple[float | None, str, int, int]:
    """Accuracy, what of, of how many clips, and how many of these the weights have heard, so far as it says."""
    try:
        if one := training.get("held_out"):
            judged, accuracy = "held out", float(one["accuracy"])
            clips, heard = int(one["clips"]), int(one.get("heard_clips", 0))
        else:
            folds = list(training.get("folds", {}).values())
            heard = sum(int(one.get("heard_clips", 0)) for one in folds)
            clips = sum(int(one["clips"]) for one in folds)
            judged, accuracy = "folds", sum(one["accuracy"] * one["clips"] for one in folds) / clips
    except (AttributeError, ArithmeticError, KeyError, TypeError, ValueError):  # another's file, none, or an older one
        return None, "", 0, 0
    return (accuracy, judged, clips, heard) if 0 <= accuracy <= 1 else (None, "", 0, 0)
