"""Promotion: a version is published if a server can serve it and it is better than the version there.

That is: it names more clips right that are new to both, and knows every class that the version there knows.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from earshot.folders import work_folder
from earshot.labels import UNKNOWN
from processors.predictor import PredictError, WrongModel, check_signature
from serving.catalogue import CatalogueError, NotWhole, draft, left_in_8_bits, require_whole, versions
from serving.inspection import Version, class_names, timestamp
from serving.layout import TRAINING_FILE, WARMUP_FILE, version_in
from training.data.datasets import DataError, chosen_folds, find_background, find_clips, read_class_map, require_apart
from training.evaluation.asking import NoClipReadable, ask
from training.evaluation.gate import TooFewRecordings, compare, require_recordings
from training.evaluation.judged import IMAGE_SHAPE, NoModel, served_model
from training.release.fairness import NEW_CLIPS, FairClips, NotComparable, fair_clips
from training.release.outcome import Compared, FalseAccepts, Labels, NotCompared, reservations
from training.release.trial import MODEL_NAME, Inputs, NotServable, Trial

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from rich.console import Console

    from training.data.clips import Clip
    from training.evaluation.answers import Answers

BATCH = 16
"""Spectrograms in one request."""
UNCOMPARED = (NotComparable, TooFewRecordings, NoClipReadable)
"""Why a candidate is not compared; it may be published by force."""
FAILURES = (CatalogueError, DataError, NoModel, PredictError, *UNCOMPARED)
"""What ends a promotion with a message of its own, beside a refusal."""


class Refused(RuntimeError):
    """The candidate is not fit to be published, and was not; the message says why."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """What is to be published where, and how it is judged."""

    candidate: Path
    """The folder of a version, or that of several, of which the newest is meant; outside `base_path`."""
    base_path: Path
    data: tuple[Path, ...]
    """Folders of labelled clips; none will do where there is no version yet that is to be beaten."""
    class_map: Path | None
    """What their labels are called, as for training."""
    folds: str
    """Those to judge on: all, or as `1,2`."""
    background: tuple[Path, ...]
    """Folders of sounds of no class. What both make of them is said and kept, and decides nothing."""
    force: bool
    """Publish a candidate that can be served even if it is not shown to be better, or knows fewer classes."""


@dataclass(frozen=True, slots=True)
class _Contest:
    """The version to beat, and what it is to be beaten on."""

    newest: Version
    fair: FairClips | NotCompared
    """Clips, or why there are none; then the candidate is published by force."""


def promote(order: Promotion, console: Console) -> Path:
    """Judge the candidate and publish it as the next version; returns its folder.

    Raises Refused, or one of `FAILURES` where it cannot be judged or published.
    """
    candidate = version_in(order.candidate)
    if candidate != order.candidate:
        console.print(f"the candidate is {candidate}")
        order = replace(order, candidate=candidate)
    clips = _given(order)  # what is wrong with them is said even where nothing is compared
    newest = _newest(order, console)
    outcome: Compared | NotCompared = NotCompared("there was no version to beat", first=True)
    with ExitStack() as opened:
        work_dir = opened.enter_context(work_folder("earshot-promote-"))
        # What is judged is the copy that is then published: the candidate may change in these minutes.
        copy = opened.enter_context(draft(order.candidate, order.base_path))
        _require_warmup(copy.folder, order.candidate)
        contest = _Contest(newest, _fair_clips(order, copy.folder, newest, clips, console)) if newest else None
        trial = opened.enter_context(Trial("the candidate", copy.folder, work_dir / "candidate"))
        takes = _require_servable(trial)
        if contest is None:
            _require_scores(trial)
        else:
            name = f"version {contest.newest.number}"
            current = opened.enter_context(Trial(name, contest.newest.folder, work_dir / "current"))
            _require_same_inputs(takes, current)
            _require_scores(trial)
            outcome = _compare(trial, current, contest, order, console)
            if isinstance(outcome, NotCompared):
                outcome = replace(outcome, lost=_lost(class_names(copy.folder), class_names(contest.newest.folder)))
        console.print(outcome.lines())
        if left := left_in_8_bits(order.base_path, copy.folder):
            console.print(
                f"version {left.number} can be served in 8 bits, the candidate cannot: servers that compute so go on "
                "with the old one, unless `earshot models quantize` is run before this"
            )
        given = [what for what, folders in (("clips", order.data), ("background", order.background)) if folders]
        if given and isinstance(outcome, NotCompared):
            console.print(f"nothing was compared, so what was named for it decides nothing: {', '.join(given)}")
        amiss = outcome.amiss
        if amiss and not order.force:
            raise Refused(f"the candidate {' and '.join(amiss)}, and was not published; --force does so nevertheless")
        at = timestamp(datetime.now(UTC))
        class_map = order.class_map.name if order.class_map else None
        event = {"event": "promotion", "at": at, "forced": bool(amiss), "amiss": amiss, "class_map": class_map}
        forced = f" by force, though it {' and '.join(amiss)}," if amiss else ""
        return copy.publish({**event, **outcome.event()}, f"Published{forced} on {at}. {outcome.sentence()}")


def _newest(order: Promotion, console: Console) -> Version | None:
    """The version to beat; None where there is none yet. Raises CatalogueError where this is no promotion at all."""
    base_path = order.base_path
    require_whole(order.candidate)
    if order.candidate.resolve().parent == base_path.resolve():
        raise CatalogueError(
            f"{order.candidate} is a version there already; `earshot models rollback --to` serves an older one again"
        )
    try:
        there = base_path.is_dir()
        base_path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CatalogueError(f"cannot make the folder {base_path} ({error.strerror})") from error
    if not there:
        console.print(f"{base_path} was not there and has been made: servers have to watch it for this to be served")
    newest = next(iter(versions(base_path)), None)
    if newest and newest.lacks:
        raise NotWhole(
            f"{newest.folder}, which the candidate has to beat, lacks {newest.lacks}; complete it, take it away, or go "
            "back to an older version with `earshot models rollback`"
        )
    return newest


def _given(order: Promotion) -> list[Clip]:
    """The clips to judge on, those of background called `unknown`; raises DataError where they will not do."""
    background = find_background(order.background)
    if not order.data:
        return background
    class_map = read_class_map(order.class_map) if order.class_map else None
    clips = find_clips(*order.data, class_map=class_map, least_classes=1, whole_map=False)
    folds = chosen_folds(order.folds, clips)
    chosen = [clip for clip in clips if clip.fold in folds]
    if not chosen:
        raise DataError(f"--folds {order.folds} leaves no clip of a class; name other folds, or other --data")
    require_apart([*clips, *background])
    return [*chosen, *background]


def _fair_clips(
    order: Promotion, candidate: Path, newest: Version, clips: list[Clip], console: Console
) -> FairClips | NotCompared:
    """Which of `clips` to compare the version in the folder `candidate` on.

    Where there are none, why, if the candidate is to be published by force.
    """
    try:
        if not order.data:
            raise NotComparable(f"no clips: --data names labelled ones, on which it has to beat {newest.folder}")
        labelled = [clip for clip in clips if clip.label != UNKNOWN]
        background = [clip for clip in clips if clip.label == UNKNOWN]
        fair = fair_clips(labelled, background, candidate, newest.folder)
    except NotComparable as error:
        return _if_forced(error, order)
    if not fair.candidate_tells and not order.force:
        raise NotComparable(
            f"{order.candidate} does not say which recordings it was trained on, so no clip is known to be new to it: "
            f"{TRAINING_FILE}, which retrain.py writes, is missing; train it again, or publish it with --force"
        )
    try:
        require_recordings([clip.source for clip in fair.labelled.clips])
    except TooFewRecordings as error:
        return _if_forced(_too_few(error, fair), order)
    for line in reservations(fair, newest.number):
        console.print(line)
    return fair


def _too_few(error: TooFewRecordings, fair: FairClips) -> TooFewRecordings:
    """The same, with what is left out and how there would be more."""
    left_out = fair.labelled.left_out
    return TooFewRecordings(f"{error}; {left_out}, which are left out: {NEW_CLIPS}") if left_out else error


def _require_warmup(copy: Path, candidate: Path) -> None:
    """Raise NotWhole where the `copy` of the candidate has no requests by which a server shows that it can answer."""
    warmup = copy / WARMUP_FILE
    if not warmup.is_file() or not warmup.stat().st_size:
        raise NotWhole(
            f"{candidate} has no warm-up requests, by which a server shows that it can answer: {WARMUP_FILE}, which "
            "retraining writes, is missing or empty; take the version as it was written"
        )


def _require_servable(trial: Trial) -> Inputs:
    """What the candidate takes; raises Refused where a server cannot serve it, or a worker would not ask it."""
    try:
        trial.wait_until_served()
        check_signature(trial.metadata(), IMAGE_SHAPE, model="of the candidate")
        return trial.inputs()
    except (NotServable, WrongModel) as error:
        raise Refused(f"{error}\nnothing was published") from error


def _require_scores(trial: Trial) -> None:
    """Raise Refused where what the candidate answers about silence is of no use to a worker."""
    try:
        with served_model(trial.address, MODEL_NAME):
            pass
    except (NoModel, PredictError) as error:
        raise Refused(f"{trial.name}: {error}\nnothing was published") from error


def _lost(ours: Iterable[str] | None, theirs: Iterable[str] | None) -> tuple[str, ...]:
    """Classes that only the version there knows, of what both say that they know; None is nothing."""
    return () if ours is None or theirs is None else tuple(sorted(set(theirs) - set(ours)))


def _require_same_inputs(takes: Inputs, current: Trial) -> None:
    """Raise Refused where those who ask the current version could not ask the candidate, whose inputs are `takes`."""
    try:
        current.wait_until_served()
        there = current.inputs()
    except NotServable as error:
        raise CatalogueError(f"{error}\ngo back to one that can be served, with `earshot models rollback`") from error
    for name, inputs in there.items():
        if takes.get(name) != inputs:
            own = takes.get(name, "is missing")
            raise Refused(f"signature {name} of {current.name} takes {inputs}, the candidate's {own}; not published")


def _compare(
    trial: Trial, current: Trial, contest: _Contest, order: Promotion, console: Console
) -> Compared | NotCompared:
    """What both answer to the same clips."""
    if isinstance(contest.fair, NotCompared):
        return contest.fair
    newest, fair = contest.newest, contest.fair
    try:
        (ours, our_background), (theirs, their_background) = (_answers(one, fair, console) for one in (trial, current))
        ours, theirs = _of_both(ours, theirs)
        figures = compare(ours.right, theirs.right, [clip.source for clip in ours.clips])
    except NoClipReadable as error:
        if not (left_out := fair.labelled.left_out):
            return _if_forced(error, order)
        return _if_forced(NotComparable(f"{left_out}, and the others cannot be read ({error}); {NEW_CLIPS}"), order)
    except TooFewRecordings as error:
        return _if_forced(_too_few(error, fair), order)
    found = _found(ours, theirs, fair, newest.number)
    heard = _false_accepts(our_background, their_background, order)
    if fair.background.clips and not heard:
        found.append("no background can be read, so false accepts are not counted")
    compared = Compared(
        figures,
        fair,
        newest.number,
        _names(order.data),
        order.folds,
        labels=Labels.of(ours),
        labels_there=Labels.of(theirs),
        false_accepts=heard,
        lost=_lost(ours.class_names, theirs.class_names),
        found=found,
    )
    for note in (*compared.beside, *found):
        console.print(note)
    return compared


def _found(ours: Answers, theirs: Answers, fair: FairClips, against: int) -> list[str]:
    """What the answers to the clips show that is to be said beside the figures, a note each."""
    found = []
    if missing := len(fair.labelled.clips) - len(ours.clips):
        found.append(f"{missing} clips could not be read, for one of the two or both, and count for neither")
    labels = {clip.label for clip in ours.clips}
    if new := sorted(labels & {*ours.class_names} - {*theirs.class_names}):
        found.append(f"version {against} does not know {', '.join(new)}: clips of these count as wrong for it")
    if strange := sorted(labels - {*ours.class_names, *theirs.class_names}):
        found.append(f"neither knows {', '.join(strange)}: clips of these count as wrong")
    if theirs.right.all():
        found.append(f"version {against} names all of these clips right: on others it may be beaten")
    return found


def _answers(trial: Trial, fair: FairClips, console: Console) -> tuple[Answers, Answers | None]:
    """What a version says of the first three seconds of each clip that is of a class, and of background if it can."""
    with served_model(trial.address, MODEL_NAME) as model:
        labelled, _ = ask(model, fair.labelled.clips, BATCH, console, title=trial.name, windows_each=1)
        if not fair.background.clips:
            return labelled, None
        try:
            heard, _ = ask(model, fair.background.clips, BATCH, console, title=f"{trial.name}, background")
        except NoClipReadable:
            return labelled, None
        return labelled, heard


def _of_both(ours: Answers, theirs: Answers) -> tuple[Answers, Answers]:
    """What both say of the clips that both heard, in the same order: a file may have gone meanwhile."""
    heard = set(ours.clips) & set(theirs.clips)
    if not heard:
        raise NoClipReadable("of the sounds that were heard for one version none could be read for the other")
    return ours.where(heard.__contains__), theirs.where(heard.__contains__)


def _false_accepts(ours: Answers | None, theirs: Answers | None, order: Promotion) -> FalseAccepts | None:
    """What both make of background, if they heard any."""
    if not ours or not theirs:
        return None
    try:
        ours, theirs = _of_both(ours, theirs)
    except NoClipReadable:
        return None
    from training.evaluation.metrics import background  # brings scikit-learn

    candidate, current = background(ours), background(theirs)
    if not candidate or not current:
        return None
    rate = "false_accepts_per_hour"
    return FalseAccepts(
        candidate[rate], current[rate], candidate["segments"], candidate["recordings"], _names(order.background)
    )


def _names(folders: Iterable[Path]) -> list[str]:
    """What folders are called, wherever they are."""
    return [folder.absolute().name for folder in folders]


def _if_forced(error: ValueError, order: Promotion) -> NotCompared:
    """What a comparison that cannot be made comes to; raises `error` where the candidate is not forced."""
    if not order.force:
        raise error
    return NotCompared(str(error))
