"""Compares memory of oneDNN's own pool with the system's, which the server asks for: speed, and memory after each load.

Two servers of the starter model, in TensorFlow, are asked in turn. How much memory comes back when a version is
unloaded is told by `benchmarks.swaps`, with TF_ONEDNN_USE_SYSTEM_ALLOCATOR=0 in its environment too.

Run: python -m benchmarks.allocator [--rounds N] [--seconds S]
"""

from __future__ import annotations

import argparse
import statistics
from contextlib import ExitStack

from benchmarks.servers import serve
from benchmarks.serving import Target, over_grpc

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
            targets = [
                Target(name, over_grpc(server.address, images), server.process.pid) for name, server in servers.items()
            ]
            for target in targets:
                target.load(clients, options.seconds)
            for _ in range(options.rounds):
                for target in targets:
                    target.measure(clients, options.seconds)
            cells = [
                f"{statistics.median(target.images_s(clients)):.0f}, {target.latency_ms(clients, 0.5):.1f} ms"
                for target in targets
            ]
            pool, system = targets
            ratio = system.ratio(pool, clients)
            memory = ", ".join(f"{server.memory_mb():.0f}" for server in servers.values())
            print(f"| {images}, {clients} | {' | '.join(cells)} | {ratio:.2f} | {memory} |", flush=True)


if __name__ == "__main__":
    main()
