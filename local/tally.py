"""Keeps account of a run: every segment that was produced, every label that came, and what the two add up to."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from queue import SimpleQueue

    from earshot.labels import Label
    from local.recordings import Recording


@dataclass(slots=True)
class _Produced:
    recording: Recording | None
    appended_ms: int | None = None


@dataclass(slots=True)
class Tally:
    """Account of a run, kept by segment id; not thread-safe."""

    produced: dict[str, _Produced] = field(default_factory=dict)
    labels: dict[str, Label] = field(default_factory=dict)
    dead_lettered: set[str] = field(default_factory=set)
    duplicates: int = 0
    played: dict[Recording, None] = field(default_factory=dict)
    """Recordings that were read to their end, in that order."""
    unreadable: list[str] = field(default_factory=list)
    """One message for each recording that could not be read."""
    _labelled_ms: dict[str, int] = field(default_factory=dict)

    def add_segment(self, segment_id: str, recording: Recording | None) -> None:
        """A device cut a segment from `recording`, or from the microphone."""
        self.produced[segment_id] = _Produced(recording)

    def add_acknowledged(self, segment_id: str, appended_ms: int) -> None:
        """Kafka appended the segment, at that time (milliseconds since the epoch, the broker's clock)."""
        self.produced[segment_id].appended_ms = appended_ms

    def add_label(self, label: Label, appended_ms: int) -> float | None:
        """Kafka appended `label`. Returns its latency in ms, None where it is a repeat or of no segment of this run.

        A label may be read before its segment's acknowledgement was; the latency is then counted in `summary`.
        """
        if label.segment_id in self.labels:
            self.duplicates += 1
            return None
        self.labels[label.segment_id] = label
        self._labelled_ms[label.segment_id] = appended_ms
        return self._latency_ms(label.segment_id)

    def add_dead_letter(self, segment_id: str) -> None:
        """A segment came out on the dead-letter topic."""
        self.dead_lettered.add(segment_id)

    def add_played(self, recording: Recording) -> None:
        """A recording was played to its end."""
        self.played.setdefault(recording)

    def add_unreadable(self, reason: str) -> None:
        """A recording could not be read."""
        if reason not in self.unreadable:  # devices that outnumber the recordings play one again
            self.unreadable.append(reason)

    def enter_all(self, events: SimpleQueue[Event]) -> None:
        """Enter everything that is on the queue now."""
        while True:
            try:
                events.get_nowait()(self)
            except Empty:
                return

    @property
    def unsent(self) -> int:
        """Segments produced that Kafka has not acknowledged."""
        return sum(produced.appended_ms is None for produced in self.produced.values())

    @property
    def waiting(self) -> int:
        """Segments produced that have neither a label nor a dead letter yet."""
        return len(self.produced.keys() - self.labels.keys() - self.dead_lettered)

    def truth(self, segment_id: str) -> str | None:
        """Class of sound in a segment, where its recording's name says it."""
        produced = self.produced.get(segment_id)
        return produced.recording.truth if produced and produced.recording else None

    def _latency_ms(self, segment_id: str) -> float | None:
        produced = self.produced.get(segment_id)
        if produced is None or produced.appended_ms is None:
            return None
        return float(self._labelled_ms[segment_id] - produced.appended_ms)

    def summary(self, elapsed_s: float) -> dict[str, Any]:
        """What the run added up to, as JSON values.

        `segments_per_s` counts labels over `elapsed_s`, the time from the first frame to the last label. Accuracy is
        over recordings whose class is known: `accuracy` asks the mean of a recording's scores, `segment_accuracy` each
        label by itself. Both are None where no class is known.
        """
        latencies = [ms for segment_id in self.labels if (ms := self._latency_ms(segment_id)) is not None]
        recordings = self._recordings()
        judged = [row for row in recordings if row["truth"] is not None and row["predicted"] is not None]
        truths = {segment_id: self.truth(segment_id) for segment_id in self.labels}
        segments = [(truth, self.labels[segment_id].label) for segment_id, truth in truths.items() if truth]
        confusion: dict[str, Counter[str]] = defaultdict(Counter)
        for row in judged:
            confusion[row["truth"]][row["predicted"]] += 1
        return {
            "segments_produced": len(self.produced),
            "labels_received": len(self.labels),
            "lost": self.waiting,
            "duplicates": self.duplicates,
            "dead_lettered": len(self.dead_lettered),
            "accuracy": _share([row["truth"] == row["predicted"] for row in judged]),
            "segment_accuracy": _share([truth == label for truth, label in segments]),
            "latency_ms": _percentiles(latencies),
            "elapsed_s": round(elapsed_s, 2),
            "segments_per_s": round(len(self.labels) / elapsed_s, 2) if elapsed_s > 0 else 0.0,
            "recordings_played": len(self.played),
            "recordings_unheard": [row["recording"] for row in recordings if not row["segments"]],
            "recordings_unreadable": self.unreadable,
            "confusion": {truth: dict(row) for truth, row in sorted(confusion.items())},
            "recordings": recordings,
        }

    def _recordings(self) -> list[dict[str, Any]]:
        """A row for each recording played: its segments' scores averaged, and the class that has the highest mean."""
        segments: dict[Recording, list[str]] = defaultdict(list)
        for segment_id, produced in self.produced.items():
            if produced.recording is not None:
                segments[produced.recording].append(segment_id)
        rows = []
        for recording in self.played:
            ids = segments[recording]
            total: Counter[str] = Counter()
            for segment_id in ids:
                if segment_id in self.labels:
                    total.update(self.labels[segment_id].scores)
            rows.append(
                {
                    "recording": str(recording.path),
                    "truth": recording.truth,
                    "predicted": max(total, key=lambda name: total[name]) if total else None,
                    "segments": len(ids),
                }
            )
        return rows


Event = Callable[[Tally], None]
"""Something that a device did, to be entered by the thread that keeps the tally."""


def _share(hits: list[bool]) -> float | None:
    return round(sum(hits) / len(hits), 4) if hits else None


def _percentiles(values: list[float]) -> dict[str, float | None]:
    names = {"p50": 50, "p95": 95, "p99": 99}
    if not values:
        return dict.fromkeys(names)
    return {name: round(float(np.percentile(values, rank)), 1) for name, rank in names.items()}
