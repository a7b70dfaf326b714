"""What reports of several runs come to together, each of folds of its own that its model had not heard.

For folds whose models have weights of their own, so that one run cannot judge them all. Runs with several seeds go side
by side: `--runs N` says how many reports make one whole. Clips are counted as in a report.

Run: python -m benchmarks.pooled REPORT.json REPORT.json ... [--runs N]
"""

from __future__ import annotations

import argparse
import json
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from training.evaluation.metrics import calibration_error, error_by_chance


def main() -> None:
    """Print a row for each whole, and their means."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("reports", type=Path, nargs="+")
    parser.add_argument("--runs", type=int, default=0, help="reports that make one whole; 0: all of them")
    options = parser.parse_args()
    each = options.runs or len(options.reports)
    if len(options.reports) % each:
        raise SystemExit(f"{len(options.reports)} reports do not make wholes of {each}")
    print("| reports | clips | right | calibration error | by chance, mean and at most |")
    print("| --- | ---: | ---: | ---: | ---: |")
    means = []
    for number in range(0, len(options.reports), each):
        paths = options.reports[number : number + each]
        answers = list(chain.from_iterable(answers_of(path) for path in paths))
        if not all("recording" in row for row in answers):
            raise SystemExit("a report does not say which recordings its clips are of: it is an older one; run it anew")
        if len({row["path"] for row in answers}) < len(answers):
            raise SystemExit(f"a clip is in two of {', '.join(map(str, paths))}: name reports of different folds")
        confidence = np.array([row["score"] for row in answers])
        right = np.array([row["segment"] == row["truth"] for row in answers])
        error = calibration_error(confidence, right)
        chance = error_by_chance(confidence, [row["recording"] for row in answers])
        means.append((right.mean(), error))
        print(
            f"| {', '.join(path.stem for path in paths)} | {len(answers)} | {right.mean():.1%} | {error:.3f} "
            f"| {'{mean:.3f}, {p95:.3f}'.format(**chance) if chance else ''} |"
        )
    accuracy, error = np.mean(means, axis=0)
    print(f"mean of {len(means)}: {accuracy:.1%}, calibration error {error:.3f}")


def answers_of(path: Path) -> list[dict[str, Any]]:
    """The answers to the clips of all judged folds of a report."""
    folds = json.loads(path.read_text(encoding="utf-8"))["folds"]
    return [row for fold in folds.values() for row in fold["answers"]]


if __name__ == "__main__":
    main()
