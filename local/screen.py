"""What the demo shows: a live table of labels (plain lines on a pipe), and the summary at the end."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Self

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console

    from earshot.labels import Label

CERTAIN = 0.6
"""Score from which a label is shown in green."""


class Screen:
    """Live view of a run's labels; a context manager."""

    def __init__(self, console: Console, rows: int = 15) -> None:
        self._console = console
        self._recent: deque[list[Text]] = deque(maxlen=rows)
        self._status = Text("")
        self._live = Live(console=console, refresh_per_second=8, get_renderable=self._render)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        else:
            self._print_row("time", "device", "label", "score", "latency", "truth")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def show_label(self, label: Label, latency_ms: float | None, truth: str | None) -> None:
        """Add a row for `label`."""
        time = label.start.astimezone().strftime("%H:%M:%S.%f")[:-4]
        latency = f"{latency_ms:.0f} ms" if latency_ms is not None else "-"
        wrong = truth is not None and truth != label.label
        colour = "red" if wrong else "green" if truth or label.score >= CERTAIN else "yellow"
        score = f"{label.score:.2f}"
        if self._console.is_terminal:
            # As text: Rich would take what is in brackets, in the name of a folder say, for its own markup.
            cells = [Text(cell) for cell in (time, label.device_id, score, latency, truth or "-")]
            self._recent.append([*cells[:2], Text(label.label, colour), *cells[2:]])
        else:
            self._print_row(time, label.device_id, label.label, score, latency, truth or "-")

    def _print_row(self, *cells: str) -> None:
        time, device, label, score, latency, truth = cells
        line = f"{time:<12} {device:<12} {label:<17} {score:>5} {latency:>8}  {truth}"
        self._console.print(Text(line), soft_wrap=True)

    def show_status(self, text: str) -> None:
        """Replace the line below the table."""
        self._status = Text(text, "dim")

    def _render(self) -> Group:
        table = Table(title="What Earshot hears", title_justify="left", expand=False)
        for name in ("time", "device", "label", "score", "latency", "truth"):
            table.add_column(name, justify="right" if name in {"score", "latency"} else "left", no_wrap=True)
        for row in self._recent:
            table.add_row(*row)
        return Group(table, self._status)


def print_summary(console: Console, summary: dict[str, Any]) -> None:
    """Print a run's summary: counts, latency, and accuracy with its confusion table where the truth is known."""
    table = Table(title="Summary", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    latency = summary["latency_ms"]
    rows = [
        ("segments produced", summary["segments_produced"]),
        ("labels received", summary["labels_received"]),
        ("lost", summary["lost"]),
        ("duplicates", summary["duplicates"]),
        ("dead-lettered", summary["dead_lettered"]),
        ("segments per second", summary["segments_per_s"]),
        ("latency p50 / p95 / p99", " / ".join(_figure(latency[rank], "ms") for rank in ("p50", "p95", "p99"))),
    ]
    if summary["accuracy"] is not None:
        rows.append(("accuracy, recordings", f"{summary['accuracy']:.1%}"))
        rows.append(("accuracy, segments", f"{summary['segment_accuracy']:.1%}"))
    if summary["recordings_unheard"]:
        rows.append(("recordings without a sound that opened the gate", len(summary["recordings_unheard"])))
    if summary["recordings_unreadable"]:
        rows.append(("recordings that could not be read", len(summary["recordings_unreadable"])))
    for name, value in rows:
        table.add_row(name, str(value))
    console.print(table)
    if summary["confusion"]:
        console.print(_confusion_table(summary["confusion"]))


def _confusion_table(confusion: dict[str, dict[str, int]]) -> Table:
    """Rows are the truth, columns what was heard; a column's number stands for the class in the row of that number."""
    names = sorted({*confusion, *(name for row in confusion.values() for name in row)})
    table = Table(title="Truth (rows) and what was heard (columns)", title_justify="left")
    table.add_column("")
    for number, _ in enumerate(names, 1):
        table.add_column(str(number), justify="right")
    for number, truth in enumerate(names, 1):
        row = confusion.get(truth, {})
        cells = [
            Text(str(row.get(name, 0) or "."), "green" if name == truth else "red" if row.get(name) else "dim")
            for name in names
        ]
        table.add_row(Text(f"{number} {truth}"), *cells)
    return table


def _figure(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.0f} {unit}"
