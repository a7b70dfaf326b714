"""What a retraining says on the screen: tables of figures, notes, and classes that want recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.measure import Measurement
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from rich.console import Console

    from training.data.clips import Clip

_WIDEST = 1000


def print_whole(console: Console, table: Table) -> None:
    """Print `table` as wide as its figures are, wherever the terminal ends: cut off they are worth nothing."""
    terminal = console.width
    console.width = max(terminal, Measurement.get(console, console.options.update(max_width=_WIDEST), table).maximum)
    console.print(table)
    console.width = terminal


def print_notes(console: Console, notes: Iterable[str]) -> None:
    """Print each note once."""
    for note in dict.fromkeys(notes):
        console.print(note, soft_wrap=True)


def print_thin(console: Console, thin: Mapping[str, int], words: str) -> None:
    """Name classes of few recordings, with how many each has."""
    if thin:
        console.print(f"{words}: {', '.join(f'{label} ({sources})' for label, sources in thin.items())}")


def print_lost(console: Console, clips: Iterable[Clip], class_names: Collection[str]) -> None:
    """Name classes of `clips` that are not among `class_names`, as none of their files can be read."""
    for lost in sorted({clip.label for clip in clips} - set(class_names)):
        console.print(f"No clip of {lost} can be read: the model will not know it")


def print_judged(console: Console, report: Mapping[str, Any]) -> None:
    """The figures of each fold that was judged, of all together, and of a random split, with their notes."""
    if report["unreadable"]:
        where = "they are in the report" if _is_written(report) else "the log names them"
        console.print(f"{len(report['unreadable'])} clips could not be read; {where}")
    if not report["folds"] and not report["random_split"]:
        return
    table = Table(title="Clips whose labels the judged model never saw", title_justify="left")
    titles = {"background": "false/h", "generated_background": "false/h, generated"}
    split = {"random": report["random_split"]} if report["random_split"] else {}
    heard = [name for name in titles if any(one[name] for one in (report["folds"] | split).values())]
    columns = (
        *("fold", "clips", "first 3 s", "whole clip"),
        *("ECE before", "ECE", "by chance up to", "labels right", "unknown"),
    )
    for name in (*columns, *(titles[name] for name in heard)):
        table.add_column(name, justify="right")
    together = {"together": report["pooled"]} if len(report["folds"]) > 1 else {}
    for fold, one in (report["folds"] | together | split).items():
        table.add_row(
            fold,
            str(one["clips"]),
            f"{one['accuracy']:.1%}",
            f"{one['clip_accuracy']:.1%}",
            f"{one['calibration_before']['ece']:.3f}",
            f"{one['calibration']['ece']:.3f}",
            f"{chance['p95']:.3f}" if (chance := one["calibration"]["ece_by_chance"]) else "-",
            f"{one['labels_right']:.1%}",
            f"{one['unknown']['share'] if one['unknown'] else 0:.1%}",
            *(f"{one[name]['false_accepts_per_hour']}" if one[name] else "-" for name in heard),
        )
    print_whole(console, table)
    of_folds = report["pooled"]["notes"] if report["pooled"] else []
    of_split = report["random_split"]["notes"] if report["random_split"] else []
    print_notes(console, [*of_folds, *(f"Of the random split: {note}" for note in of_split if note not in of_folds)])


def _is_written(report: Mapping[str, Any]) -> bool:
    return bool(report["settings"]["report"] or report["settings"]["run_dir"])
