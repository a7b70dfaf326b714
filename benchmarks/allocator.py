"""Compares memory of oneDNN's own pool with the system's, which the server asks for: speed, and memory after each load.

Two servers of the starter model, in TensorFlow, are asked in turn. How much memory comes back when a version is
unloaded is told by `benchmarks.swaps`, with TF_ONEDNN_USE_SYSTEM_ALLOCATOR=0 in its environment too.

Run: python -m benchmarks.allocator [--rounds N] [--seconds S]
"""

from __future__ import annotations

import argparse
import statistics
from contextlib import ExitStack
from typing import TYPE_CHECKING

from benchmarks.servers import serve
from benchmarks.serving import over_grpc

if TYPE_CHECKING:
    from benchmarks.loads import Seen

SETTINGS = {"pool": "0", "system": "1"}
"""TF_ONEDNN_USE_SYSTEM_ALLOCATOR of each server."""


def main() -> None:
    """Print a table: a line for each number of images in a request, and of clients."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each server in each round")
    options = parser.parse_args()
    print("| images a request, clients | pool: images/s, p50 | system: images/s, p50 | system to pool | memory, MB |")
    print("| --- | --- | --- | --- | --- |")
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(serve(None, variables={"TF_ONEDNN_USE_SYSTEM_ALLOCATOR": value}))
            for name, value in SETTINGS.items()
        }
        for images, clients in ((1, 1), (1, 4), (1, 16), (16, 1), (16, 4), (1, 1)):
            loads = {name: over_grpc(server, images) for name, server in servers.items()}
            seen: dict[str, list[Seen]] = {name: [] for name in servers}
            for load in loads.values():
                load(clients, options.seconds)
            for _ in range(options.rounds):
                for name, load in loads.items():
                    seen[name].append(load(clients, options.seconds))
            cells = []
            for own in seen.values():
                rate = statistics.median(each.images_s for each in own)
                latency_s = statistics.median(one for each in own for one in each.latencies_s)
                cells.append(f"{rate:.0f}, {1000 * latency_s:.1f} ms")
            pairs = zip(seen["system"], seen["pool"], strict=True)
            ratio = statistics.median(system.images_s / pool.images_s for system, pool in pairs)
            memory = ", ".join(f"{server.memory_mb():.0f}" for server in servers.values())
            print(f"| {images}, {clients} | {cells[0]} | {cells[1]} | {ratio:.2f} | {memory} |", flush=True)


if __name__ == "__main__":
    main()
