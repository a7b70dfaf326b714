"""How many clips of each UrbanSound8K class open the activity gate, gate by gate.

Run: EARSHOT_URBANSOUND8K=/path/to/UrbanSound8K python -m benchmarks.gate [clips a class]
"""

from __future__ import annotations

import csv
import os
import random
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from producers.gate import Gate
from producers.recordings import RecordingSource

if TYPE_CHECKING:
    from producers.settings import GateKind

KINDS: tuple[GateKind, ...] = ("vad", "energy", "either")


def clips(root: Path, per_class: int) -> dict[str, list[Path]]:
    """Up to `per_class` clips of each class, drawn with a fixed seed; 0 is all of them."""
    found: dict[str, list[Path]] = defaultdict(list)
    with (root / "metadata" / "UrbanSound8K.csv").open() as table:
        for row in csv.DictReader(table):
            found[row["class"]].append(root / "audio" / f"fold{row['fold']}" / row["slice_file_name"])
    draw = random.Random(0)
    return {
        name: draw.sample(paths, min(per_class, len(paths))) if per_class else paths
        for name, paths in sorted(found.items())
    }


def opened(path: Path) -> set[GateKind]:
    """The gates, each with the agent's defaults, that a clip opens at least once."""
    gates = {kind: Gate(kind) for kind in KINDS}
    found: set[GateKind] = set()
    for frame in RecordingSource(path, speed=0):
        found |= {kind for kind, gate in gates.items() if gate.update(frame).active}
    return found


def main() -> None:
    """Print one line a class: the share of its clips with at least one trigger."""
    root = os.environ.get("EARSHOT_URBANSOUND8K")
    if root is None:
        sys.exit("set EARSHOT_URBANSOUND8K to the data set's folder")
    per_class = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    print(f"{'class':<18}{'clips':>6}" + "".join(f"{kind:>8}" for kind in KINDS))
    for name, paths in clips(Path(root), per_class).items():
        counts = Counter(kind for path in paths for kind in opened(path))
        shares = "".join(f"{100 * counts[kind] / len(paths):7.1f}%" for kind in KINDS)
        print(f"{name:<18}{len(paths):>6}{shares}")


if __name__ == "__main__":
    main()
