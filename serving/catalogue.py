"""The versions under a model base path: what stands there, and how another one comes to stand there.

A server serves the highest number, so whatever is to be served takes the next one, an older version too. It is copied
under a hidden name, which no server takes for a version, and renamed: it appears whole or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.inspection import Version, missing_files, read_json, timestamp
from serving.layout import (
    CARD_FILE,
    EXTRA_FOLDER,
    INT8_FILE,
    MOST_VERSION,
    PROMOTION_FILE,
    SAVED_MODEL_FILE,
    servable_folders,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class CatalogueError(ValueError):
    """Base of what keeps a version from being published; nothing is left half there."""


class NoBasePath(CatalogueError):
    """The model base path is not a folder of versions."""


class NoSuchVersion(CatalogueError):
    """The base path has no version, or none of that number."""


class NotWhole(CatalogueError):
    """A version lacks some of its files."""


class VersionAppeared(CatalogueError):
    """Another version was published while this one was being prepared."""


class CannotPublish(CatalogueError):
    """The base path cannot be written, or its disk is full."""


def next_version(base_path: Path) -> Path:
    """The folder for the version after the highest that is there; a number that something else has is left out."""
    number = 1 + max(servable_folders(base_path), default=0)
    while os.path.lexists(base_path / str(number)):
        number += 1
    return base_path / str(number)


def versions(base_path: Path) -> list[Version]:
    """What stands in `base_path`, the newest first, as TensorFlow Serving's policy `latest` has it; raises NoBasePath.

    Hidden folders, in which versions are being written, are no versions yet.
    """
    if not base_path.is_dir():
        raise NoBasePath(f"{base_path} is no folder; --model-base-path names the one that holds the version folders")
    require_no_version(base_path)
    return [
        Version.read(number, folder) for number, folder in sorted(servable_folders(base_path).items(), reverse=True)
    ]


def require_no_version(base_path: Path) -> None:
    """Raise NoBasePath where the folder is a version itself."""
    if (base_path / SAVED_MODEL_FILE).exists():
        raise NoBasePath(
            f"{base_path} is a version itself; name the folder that it is in, {base_path.absolute().parent}"
        )


def find_version(base_path: Path, number: int | None = None) -> Version:
    """The version of that number in `base_path`, or the newest; raises NoBasePath, NoSuchVersion or NotWhole."""
    there = versions(base_path)
    found = next((version for version in there if number in {None, version.number}), None)
    if found is None:
        others = ", ".join(str(version.number) for version in there) or "none"
        raise NoSuchVersion(f"{base_path} holds no version {'' if number is None else number}; there are: {others}")
    require_whole(found.folder)
    return found


def left_in_8_bits(base_path: Path, published: Path) -> Version | None:
    """What servers that compute in 8 bits go on with while `published`, or a draft of it, is the newest version.

    None where they take that one, or there is nothing that they served before. Raises NoBasePath.
    """
    if (published / INT8_FILE).is_file():
        return None
    others = (one for one in versions(base_path) if one.folder.name != published.name)
    return next((one for one in others if one.in_8_bits and not one.lacks), None)


def require_whole(version_dir: Path) -> None:
    """Raise NotWhole unless the folder has all files of a version."""
    if not version_dir.is_dir():
        raise NotWhole(f"{version_dir} is not there: name the folder of a version, or one that holds versions")
    lacks = missing_files(version_dir)
    if lacks:
        raise NotWhole(f"{version_dir} is not a whole version: it lacks {lacks}")


class Draft:
    """A copy of a version beside its place, hidden from servers until it is published."""

    def __init__(self, folder: Path, target: Path, there: frozenset[int]) -> None:
        self.folder = folder
        self.target = target
        """Where it goes: the next number when it was begun."""
        self._there = there

    def publish(self, event: Mapping[str, Any], section: str) -> Path:
        """Note `event` and, in the card, `section` (Markdown), let the version appear, and return its folder.

        What an earlier event said stays under `before`. Raises VersionAppeared or CannotPublish.
        """
        note, card = self.folder / PROMOTION_FILE, self.folder / CARD_FILE
        before = read_json(note)
        with _writing(self.target.parent):
            (self.folder / EXTRA_FOLDER).mkdir(exist_ok=True)
            whole = {**event, "before": before} if before else event
            note.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
            text = card.read_text(encoding="utf-8", errors="replace") if card.exists() else "# Model card\n"
            card.write_text(f"{text.rstrip()}\n\n## Version {self.target.name}\n\n{section}\n", encoding="utf-8")
            self.folder.chmod(0o755)  # a server under another user reads it too
        if frozenset(servable_folders(self.target.parent)) - self._there or self.target.exists():
            raise self._appeared()
        try:
            self.folder.rename(self.target)
        except OSError as error:
            if self.target.exists():
                raise self._appeared() from None
            raise _cannot_publish(self.target.parent, error) from error
        return self.target

    def _appeared(self) -> VersionAppeared:
        return VersionAppeared(
            f"another version appeared in {self.target.parent} meanwhile; see `earshot models list`, and decide anew"
        )


@contextmanager
def draft(source: Path, base_path: Path) -> Iterator[Draft]:
    """A copy of the version folder `source`, to be looked at and published as the next version in `base_path`.

    It is gone where the block ends without publishing it. Raises NotWhole or CannotPublish.
    """
    require_whole(source)
    target, there = next_version(base_path), frozenset(servable_folders(base_path))
    if int(target.name) > MOST_VERSION:
        raise CannotPublish(f"{base_path} has the highest number that there is, so nothing can come after it")
    with _writing(base_path):
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=base_path))
    try:
        with _writing(base_path):
            shutil.copytree(source, folder, dirs_exist_ok=True)
        yield Draft(folder, target, there)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def roll_back(base_path: Path, to: int | None = None, reason: str = "") -> Path:
    """Publish an older version (`to`, or the one before the newest) once more as the next, and return its folder.

    Raises NoBasePath, NoSuchVersion, NotWhole, VersionAppeared or CannotPublish.
    """
    there = versions(base_path)
    if not there:
        raise NoSuchVersion(f"{base_path} holds no version, a folder whose name is a number")
    newest, *older = there
    if to == newest.number:
        raise NoSuchVersion(f"version {to} is the newest already; --to names an older one")
    chosen = next((version for version in older if to in {None, version.number}), None)
    if chosen is None:
        others = ", ".join(str(version.number) for version in older)
        beside = (
            f"older ones than {newest.number}, the newest, are {others}" if others else f"only {newest.number} is there"
        )
        wanted = "older version" if to is None else f"version {to}"
        raise NoSuchVersion(f"{base_path} holds no {wanted} to go back to: {beside}")
    at = datetime.now(UTC)
    event = {"event": "rollback", "at": timestamp(at), "again": chosen.number, "after": newest.number, "reason": reason}
    section = f"Version {chosen.number} again, in place of version {newest.number}, since {at:%Y-%m-%d %H:%M} UTC"
    with draft(chosen.folder, base_path) as copy:
        return copy.publish(event, f"{section}: {reason}" if reason else f"{section}.")


@contextmanager
def _writing(base_path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _cannot_publish(base_path, error) from error


def _cannot_publish(base_path: Path, error: OSError) -> CannotPublish:
    # copytree goes on after a file that it cannot copy, and has a list of them in the end.
    reason = error.args[0][0][2] if isinstance(error, shutil.Error) else error.strerror or error
    return CannotPublish(
        f"cannot put a version into {base_path} ({reason}); is the disk full, or the folder another user's?"
    )
