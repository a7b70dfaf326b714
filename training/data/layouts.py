"""How published data sets lie on disk: UrbanSound8K, ESC-50, or a folder for each class.

Each layout is a function from a folder to its clips. Two of them come from Freesound, and name a clip's recording by
its number there; so a recording that both have is known for one.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from earshot.labels import UNKNOWN
from earshot.logs import get_log
from producers.recordings import SUFFIXES
from training.data.clips import PICTURE, Clip, recording_shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = get_log(__name__)

OWN_FOLDS = 5
"""Folds that a data set without folds of its own is dealt into."""

URBANSOUND8K = "metadata/UrbanSound8K.csv"
ESC50 = "meta/esc50.csv"

FREESOUND = "freesound:"
"""Begins the name of a recording whose number there is known."""
_NAMED_AFTER_RECORDING = (
    # UrbanSound8K: recording-class-occurrence-slice; no date, be it 2026-11-29-180400 or 2026-3-9-1.
    re.compile(r"^(?!(?:19|20)\d\d-[1-9]-(?:[1-9]|[12]\d|3[01])-)(?P<freesound>\d+)-\d-\d+-\d+$"),
    re.compile(r"^\d-(?P<freesound>\d+)-[A-Z]-\d+$"),  # ESC-50: fold-recording-take-class
)
TAKE = "_nohash_"
"""What follows it in a file's name tells takes of one recording apart, as in TensorFlow's own retraining scripts."""


class NotThisLayout(ValueError):
    """A folder has a data set's table, and the table is not what it should be, or none of its clips is there."""


def clips_in(folder: Path) -> list[Clip]:
    """Every clip in `folder`, in order, by the table that it has, or else by its folders.

    A table may name .wav files where the clips are .flac, and clips that are not there, but not only these. Raises
    NotThisLayout.
    """
    for table, layout in ((URBANSOUND8K, _urbansound8k), (ESC50, _esc50)):
        if (folder / table).is_file():
            try:
                with (folder / table).open(newline="", encoding="utf-8-sig") as lines:
                    rows = csv.DictReader(lines)
                    clips = list(layout(folder, rows))
            except (KeyError, ValueError, csv.Error) as error:  # UnicodeDecodeError is a ValueError
                name = "UrbanSound8K" if layout is _urbansound8k else "ESC-50"
                why = f"it has no column {error.args[0]}" if isinstance(error, KeyError) else error
                raise NotThisLayout(f"{folder / table} is not {name}'s table ({why}); fetch it again") from error
            if not clips:
                raise NotThisLayout(
                    f"{folder / table} names {max(rows.line_num - 1, 0)} clips, and none of them is in "
                    f"{folder / 'audio'}; fetch the sounds, or the table, again"
                )
            return clips
    return list(_folders(folder))


def _urbansound8k(folder: Path, table: csv.DictReader[str]) -> Iterator[Clip]:
    for name, fold, recording, label in _rows(table, "slice_file_name", "fold", "fsID", "class"):
        path = _there(folder / "audio" / f"fold{fold}" / name)
        if path:
            yield Clip(path, label, int(fold), f"{FREESOUND}{recording}")


def _esc50(folder: Path, table: csv.DictReader[str]) -> Iterator[Clip]:
    for name, fold, label, recording in _rows(table, "filename", "fold", "category", "src_file"):
        path = _there(folder / "audio" / name)
        if path:
            yield Clip(path, label, int(fold), f"{FREESOUND}{recording}")


def _rows(table: csv.DictReader[str], *columns: str) -> Iterator[list[str]]:
    """Of each row what is in these columns; raises KeyError without one, ValueError where a row ends before it."""
    for row in table:
        values = [row[column] for column in columns]
        if None in values:
            raise ValueError(f"line {table.line_num} ends too early")
        yield [value.strip() for value in values]


def _there(named: Path) -> Path | None:
    return next(
        (path for path in (named, named.with_suffix(".flac"), named.with_suffix(".wav")) if path.is_file()), None
    )


def _folders(folder: Path) -> Iterator[Clip]:
    """A folder for each class; in it files, each a recording or its picture, or a folder for each recording."""
    clips = _files(folder, "*/**/*")
    used = {path.relative_to(folder).parts[0] for path in clips}
    for name in sorted(each.name for each in folder.iterdir() if each.is_dir()):
        if used and name not in used and not _is_hidden(name):
            log.warning("no recording in the folder of a class", folder=str(folder / name))
    found: list[tuple[Path, str, int | None]] = []
    for path in clips:
        shown, fold = recording_shown(path)
        source = _source(path, folder, shown, classes=True)
        found.append((path, source, fold if shown == source else None))
    # Of a recording that has several pictures some may have been written anew, and say no fold.
    folds = {source: fold for _, source, fold in found if fold}
    for path, source, fold in found:
        yield Clip(path, path.relative_to(folder).parts[0], fold or folds.get(source) or _fold(source), source)


def background_in(folder: Path) -> Iterator[Clip]:
    """Recordings of no class: every file below `folder`, or every folder in it, which holds one recording in pieces."""
    for path in _files(folder, "**/*"):
        shown, _ = recording_shown(path)
        source = _source(path, folder, shown, classes=False)
        yield Clip(path, UNKNOWN, _fold(source), source if source.startswith(FREESOUND) else f"background:{source}")


def _files(folder: Path, pattern: str) -> list[Path]:
    """Recordings and pictures; what programs hide beside them, such as `._1.wav` of a Mac, is none."""
    suffixes = {*SUFFIXES, PICTURE}
    return sorted(
        path
        for path in folder.glob(pattern)
        if path.suffix.lower() in suffixes
        and not any(_is_hidden(part) for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _fold(source: str) -> int:
    """The fold that a recording is dealt into, whatever others there are."""
    return 1 + hashlib.sha256(os.fsencode(source)).digest()[0] % OWN_FOLDS


def _source(path: Path, folder: Path, shown: str, *, classes: bool) -> str:
    """The recording of a file, without its suffix, where `folder` has a folder for each class, or none.

    A picture is of the same recording as the sound that it says is `shown`, whatever class that was given, unless it
    was put into a folder of another recording.
    """
    stem, _, _ = path.stem.partition(TAKE)
    for pattern in _NAMED_AFTER_RECORDING:
        if found := pattern.match(stem):
            return f"{FREESOUND}{found['freesound']}"
    inside = path.relative_to(folder).parent
    in_one_of_its_own = len(inside.parts) > classes
    if shown and (not in_one_of_its_own or PurePosixPath(shown).parts[classes:] == inside.parts[classes:]):
        return shown
    return (inside if in_one_of_its_own else inside / stem).as_posix()


def recording_folders(clip: Clip) -> tuple[str, ...]:
    """The folders, below that of its class, by which `_source` knows a clip's recording; none where its name does."""
    parts = PurePosixPath(clip.source).parts
    if clip.source.startswith(FREESOUND) or parts[-1] == clip.path.stem.partition(TAKE)[0]:
        return ()
    return parts[1:]
