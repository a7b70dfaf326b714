"""What can be found wrong with a retraining before the long work, and with its clips once they have been read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from earshot.folders import NotWritable, require_writable
from earshot.labels import UNKNOWN
from serving.catalogue import next_version, require_no_version
from serving.layout import version_folders
from training.data.background import is_generated
from training.data.datasets import DataError, require_no_copies
from training.evaluation.report import report_files
from training.heads.parts import LEAST_LEARNT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

    from training.data.clips import Clip
    from training.recipe import Recipe
    from training.settings import RetrainSettings


def check_before(settings: RetrainSettings, clips: list[Clip], held_out: list[int], judged: list[int]) -> None:
    """Find now what would else end the run after minutes or hours.

    Raises DataError, NetworkError, NotWritable or NoBasePath.
    """
    settings.architecture((0.0, 1.0))  # before weights are fetched
    trainings = _trainings(settings, held_out, judged)
    for without in trainings:
        _require_two_classes(clips, without)
    _require_all_learnt(settings, clips, held_out)
    if settings.protocol == "random" and not any(trainings):
        raise DataError(
            "--protocol random says little by itself and stands beside whole folds: name some with --evaluate, or with "
            "--hold-out for a model that is published"
        )
    if settings.model_dir and settings.model_dir.is_dir() and version_folders(settings.model_dir):
        raise DataError(
            f"{settings.model_dir} holds versions of a model: --model-base-path names where the next one goes, and "
            "--model-dir where Inception V3 is kept"
        )
    if not trainings:
        raise DataError(
            "there is nothing to do: --evaluate names folds to judge the recipe on, --model-base-path where the next "
            "version goes, --compact a file for the model"
        )
    for option in ("run_dir", "summaries_dir", "model_dir", "bottleneck_dir", "model_base_path"):
        if folder := getattr(settings, option):
            _make(folder, settings.option(option))
    targets = [settings.compact, settings.output_labels, *(report_files(settings.report) if settings.report else ())]
    if settings.model_base_path:
        require_no_version(settings.model_base_path)
        targets.append(next_version(settings.model_base_path))
    for target in filter(None, targets):
        require_writable(target)
    require_no_copies(clips)  # the slowest, as it reads files


def _make(folder: Path, option: str) -> None:
    """Have `folder`, which `option` names, and that one may write there; raises NotWritable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotWritable(f"cannot make the folder {folder} ({error.strerror}); name another with {option}") from error
    if not os.access(folder, os.W_OK):
        raise NotWritable(f"cannot write in the folder {folder}; name another with {option}")


def check_readable(settings: RetrainSettings, recipe: Recipe, held_out: list[int], judged: list[int]) -> None:
    """Raise DataError where clips that cannot be read leave nothing to train on, or to judge."""
    for fold in (*judged, *held_out):
        if not any(clip.fold == fold and clip.label != UNKNOWN for clip in recipe.clips):
            why = recipe.unreadable[0] if recipe.unreadable else f"all are {UNKNOWN}"
            raise DataError(f"no clip of a class in fold {fold} can be read, so nothing can be judged on it: {why}")
    for without in _trainings(settings, held_out, judged):
        _require_two_classes(recipe.clips, without)
    _require_all_learnt(settings, recipe.clips, held_out)


def tells_apart(clips: Collection[Clip]) -> bool:
    """Whether there are two recordings of two classes, the least that can be trained on."""
    return min(_recordings_and_classes(clips)) >= LEAST_LEARNT


def _trainings(settings: RetrainSettings, held_out: Sequence[int], judged: Sequence[int]) -> list[set[int]]:
    """The folds that each model of the run is trained without."""
    published = [set(held_out)] if settings.publishes else []
    return [*({fold} for fold in judged), *published]


def _require_all_learnt(settings: RetrainSettings, clips: Sequence[Clip], held_out: Sequence[int]) -> None:
    """Raise DataError where the model that is published would have a class that it has not learnt."""
    learnt = {clip.label for clip in clips if clip.fold not in held_out}
    if settings.generated_background:
        learnt.add(UNKNOWN)
    never = sorted({clip.label for clip in clips} - learnt)
    if never and settings.publishes:
        raise DataError(
            f"no clip of {', '.join(never)} that can be read is outside the folds that are held out, so the published "
            "model would never answer that: hold out other folds, add recordings, or leave the class out by --class-map"
        )


def _require_two_classes(clips: Iterable[Clip], without: set[int]) -> None:
    """Raise DataError where the clips that are not in the folds `without` leave nothing to tell apart."""
    left = [clip for clip in clips if clip.fold not in without]
    if not tells_apart(left):
        outside = f" outside fold {', '.join(map(str, sorted(without)))}" if without else ""
        recordings, classes = _recordings_and_classes(left)
        raise DataError(
            f"recordings{outside}: {recordings}, of classes: {classes}; training needs two recordings of two classes: "
            "add clips, or name fewer folds with --evaluate (none judges nothing) and --hold-out"
        )


def _recordings_and_classes(clips: Iterable[Clip]) -> tuple[int, int]:
    """How many there are of each; noises that were made are of none, else one class would be enough."""
    recorded = [clip for clip in clips if not is_generated(clip)]
    return len({clip.source for clip in recorded}), len({clip.label for clip in recorded})
