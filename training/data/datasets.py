"""The clips to train on: one data set, or several together whose labels a class map brings under one set of names."""

from __future__ import annotations

import csv
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from earshot.labels import UNKNOWN
from earshot.logs import get_log
from training.data.background import is_generated
from training.data.clips import PICTURE, is_picture
from training.data.contents import digests
from training.data.layouts import FREESOUND, NotThisLayout, background_in, clips_in
from training.settings import folders_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from training.data.clips import Clip
    from training.settings import DataSettings

log = get_log(__name__)

FEW_SOURCES = 10
"""A class of fewer recordings is warned of: what it learns is those recordings, and its figures say little."""

_OTHERS = "*"


class DataError(ValueError):
    """The data set cannot be trained on; the message says what is missing."""


def clips_of(settings: DataSettings, least_classes: int = 2, *, whole_map: bool = True) -> list[Clip]:
    """The clips that the settings name, as `find_clips` finds them."""
    if not settings.folders:
        raise DataError("no clips: --data names UrbanSound8K's or ESC-50's folder, or one with a folder for each class")
    class_map = read_class_map(settings.class_map) if settings.class_map else None
    background = folders_of(settings.background)
    least = 1 if background else least_classes
    clips = find_clips(*settings.folders, class_map=class_map, least_classes=least, whole_map=whole_map)
    every = [*clips, *find_background(background, clips)]
    require_apart(every)
    return every


def find_background(folders: Iterable[Path], clips: Iterable[Clip] = ()) -> list[Clip]:
    """Every recording of `folders` as a clip of no class, in the fold that `clips` have it in if they do.

    Raises DataError where a folder has none.
    """
    fold_of = {clip.source: clip.fold for clip in clips}
    found: list[Clip] = []
    for folder in _each_once(folders):
        own = list(background_in(folder))
        if not own:
            what = "holds no recording" if folder.is_dir() else "is not a folder"
            raise DataError(f"{folder} {what}; name folders of sounds")
        found += [replace(clip, fold=fold_of.get(clip.source, clip.fold)) for clip in own]
    return found


def require_apart(clips: Iterable[Clip]) -> None:
    """Raise DataError where a file is of two classes, or of a class and of none."""
    label_of: dict[Path, str] = {}
    for clip in sorted(clips, key=lambda clip: clip.label == UNKNOWN):
        label = label_of.setdefault(clip.path.resolve(), clip.label)
        if (label == UNKNOWN) != (clip.label == UNKNOWN):
            raise DataError(f"{clip.path} is of {label} and background too; name other folders with --background")
        if label != clip.label:
            raise DataError(f"{clip.path} is of {label} and of {clip.label}; a clip has one class, so take one away")


def require_no_copies(clips: Iterable[Clip]) -> None:
    """Raise DataError where files of two folds have the same content: a model would be judged by what it learnt.

    Folds of recordings that come from Freesound are others' choice, and are left as they are.
    """
    by_size: dict[int | str, list[Clip]] = defaultdict(list)
    for clip in clips:
        with suppress(OSError):  # whoever reads it says why it cannot be read
            by_size[PICTURE if is_picture(clip.path) else clip.path.stat().st_size].append(clip)
    by_content: dict[bytes, list[Clip]] = defaultdict(list)
    alike = [own for size, own in by_size.items() if size and len(own) > 1 and not _all_of_freesound(own)]
    for clip, digest in digests([clip for own in alike for clip in own]).items():
        by_content[digest].append(clip)
    for copies in by_content.values():
        one, *others = copies
        for other in others:
            if other.fold != one.fold and not _all_of_freesound(copies):
                raise DataError(
                    f"{one.path} and {other.path} are copies, in folds {one.fold} and {other.fold}, so a model would "
                    "be judged by what it has learnt: take one away, or, of folders of your own, put both into one "
                    "folder in that of their class"
                )


def _all_of_freesound(clips: Iterable[Clip]) -> bool:
    return all(clip.source.startswith(FREESOUND) for clip in clips)


def find_clips(
    *folders: Path, class_map: Mapping[str, str] | None = None, least_classes: int = 2, whole_map: bool = True
) -> list[Clip]:
    """Every clip of all `folders`, each read once, in order, labelled as `class_map` has it (see `read_class_map`).

    whole_map: whether each label of the map has to be there; one that was made for training may have more than the
    clips that a model is judged by. A recording that is in several data sets is in the fold that the first of them
    gives it. Raises DataError where there are fewer classes than `least_classes`, or a data set has clips of one
    recording in two folds.
    """
    clips: list[Clip] = []
    fold_of: dict[str, int] = {}
    names: set[tuple[str, bool]] = set()  # a picture is taken to be of the sound of its name
    for folder in _each_once(folders):
        own = _of_one(folder)
        own_names = {(clip.source, is_picture(clip.path)) for clip in own if not clip.source.startswith(FREESOUND)}
        if same := sorted(source for source, _ in own_names & names):
            log.warning(
                "files of the same names in another data set count as the same recordings; rename them if they are not",
                data=str(folder),
                recordings=len(same),
                such_as=same[0],
            )
        moved = {clip.source for clip in own if fold_of.get(clip.source, clip.fold) != clip.fold}
        if moved:
            log.warning("recordings are in another data set too, and take its folds", data=str(folder), n=len(moved))
        own = [replace(clip, fold=fold_of.get(clip.source, clip.fold)) for clip in own]
        fold_of |= {clip.source: clip.fold for clip in own}
        names |= own_names
        clips += own
    where = ", ".join(str(folder) for folder in folders)
    if not clips:
        flat = next((folder for folder in folders if next(background_in(folder), None)), None)
        found = f"the recordings in {flat} are in no folder of a class" if flat else f"{where} holds no clips"
        raise DataError(f"{found}; name UrbanSound8K's, ESC-50's, or one with a folder for each class")
    if class_map is not None:
        clips = _mapped(clips, class_map, whole=whole_map)
    for label in sorted({clip.label for clip in clips}):
        _require_name(label)
    if not clips:
        raise DataError(f"the class map leaves no clip of {where}; give a class to one of the labels")
    if len({clip.label for clip in clips}) < least_classes:
        raise DataError(f"{where} holds {len(clips)} clips; training needs clips of two classes at least")
    return clips


def _each_once(folders: Iterable[Path]) -> Iterable[Path]:
    return {folder.resolve(): folder for folder in folders}.values()


def _require_name(label: str) -> None:
    """Raise DataError for what cannot be the name of a class, which is a line of a file in every version."""
    try:
        label.encode()
        wrong = "" if label.splitlines() == [label] else "is not one line"
    except UnicodeEncodeError:
        wrong = "is no text"
    if wrong:
        raise DataError(f"{label!r} {wrong}, so it cannot be the name of a class; rename its folder, or mend the table")


def require_no_path(label: str) -> None:
    """Raise DataError for the name of a class that cannot be that of a folder too."""
    if "/" in label or label in {".", ".."}:
        raise DataError(f"{label!r} is a path, so no folder can have it for its name; give it another with --class-map")


def _of_one(folder: Path) -> list[Clip]:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; name UrbanSound8K's, ESC-50's, or one with a folder for each class")
    try:
        clips = clips_in(folder)
    except NotThisLayout as error:
        raise DataError(str(error)) from error
    first: dict[str, Clip] = {}
    for clip in clips:
        one = first.setdefault(clip.source, clip)
        if one.fold != clip.fold:
            raise DataError(
                f"recording {clip.source} is in folds {one.fold} and {clip.fold}, as {one.path} and {clip.path}: it "
                "would leak; have all clips of a recording in one fold"
            )
    return clips


def chosen_folds(text: str, clips: list[Clip], but: Collection[int] = ()) -> list[int]:
    """The folds that `text` names: all `but` some, none, or numbers as 1,2.

    Raises DataError where one has no clip of a class.
    """
    present = sorted({clip.fold for clip in clips if clip.label != UNKNOWN})
    if text == "all":
        return [fold for fold in present if fold not in but]
    if text in {"", "none"}:
        return []
    try:
        folds = [int(part) for part in text.split(",")]
    except ValueError:
        raise DataError(f"folds are numbers separated by commas, not {text!r}") from None
    absent = [fold for fold in folds if fold not in present]
    if absent:
        here = ", ".join(map(str, present)) or "none"
        raise DataError(f"there is no clip in fold {absent[0]}; the folds here are {here}")
    return sorted(set(folds))


def read_class_map(path: Path) -> dict[str, str]:
    """A class map from a CSV table with the columns `label` and `class`.

    A label of a data set becomes the class beside it, and is left out where that is empty; the label `*` stands for
    all that are not in the table, which keep their names without it. Raises DataError.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as table:
            rows = [(row["label"].strip(), row["class"]) for row in csv.DictReader(table)]
    except OSError as error:
        raise DataError(f"the class map {path} cannot be read: {error.strerror}") from error
    except (KeyError, AttributeError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"the class map {path} is no CSV table with the columns label and class") from error
    if not rows:
        raise DataError(f"the class map {path} has no row; give each label its class, under a line label,class")
    names: dict[str, str] = {}
    for label, given in rows:
        if given is None:
            raise DataError(f"the class map {path} ends the row of {label} too early; a comma after it leaves it out")
        name = given.strip()
        if names.setdefault(label, name) != name:
            raise DataError(f"the class map {path} has {label} as {names[label]!r} and as {name!r}; leave one of them")
    for name in filter(None, names.values()):
        _require_name(name)
        require_no_path(name)
    return names


def _mapped(clips: Iterable[Clip], class_map: Mapping[str, str], *, whole: bool) -> list[Clip]:
    clips = list(clips)
    there = {clip.label for clip in clips}
    unknown = sorted(class_map.keys() - there - {_OTHERS})
    if unknown and (whole or not (class_map.keys() & there or _OTHERS in class_map)):
        labels = ", ".join(sorted(there))
        raise DataError(f"the class map names {', '.join(unknown)}, which no data set has; there are {labels}")
    if unknown:
        log.warning("the class map names labels that no clip here has", labels=unknown)
    named = (replace(clip, label=class_map.get(clip.label, class_map.get(_OTHERS, clip.label))) for clip in clips)
    return [clip for clip in named if clip.label]


def thin_classes(clips: Iterable[Clip]) -> dict[str, int]:
    """Classes of fewer than `FEW_SOURCES` recordings, and how many each has; noises that were made are none."""
    sources: dict[str, set[str]] = {}
    for clip in clips:
        if is_generated(clip):
            continue
        sources.setdefault(clip.label, set()).add(clip.source)
    return {label: len(own) for label, own in sorted(sources.items()) if len(own) < FEW_SOURCES}
