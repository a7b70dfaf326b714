"""Times how long a fresh interpreter takes to import each component, in turn, medians beside a bare interpreter's.

Run: python -m benchmarks.imports [--rounds N]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

MODULES = {
    "(bare)": "",
    "agent": "import producers.command",
    "worker": "import processors.worker, processors.app",
    "command line": "import earshot.cli",
    "models": "import serving.models, serving.catalogue",
}


def seconds(statement: str) -> float:
    """Wall time of an interpreter that runs `statement` and ends."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - started


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {name: [] for name in MODULES}
    for _ in range(rounds):
        for name, statement in MODULES.items():
            times[name].append(seconds(statement))
    print(f"{rounds} rounds, medians")
    for name, values in times.items():
        print(f"{name:<13} {statistics.median(values):5.2f} s")


if __name__ == "__main__":
    main()
