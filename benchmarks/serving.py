"""Compares engines through the server: images a second and latency at several numbers of clients.

TensorFlow in a process by itself, the engine inside TensorFlow Serving, is what the others are compared with; beside
each engine that is asked over gRPC, the same engine without it tells what the RPC costs: in images a second, in which
clients on the same cores have a part, and in what the server's process takes of the cores. A server without an engine
tells what it costs at the least, as cores that are busy with gRPC compute nothing. All take turns, round after round,
so that whatever else the machine does meets all of them; times are medians of the rounds, ratios medians of theirs.

Run: python -m benchmarks.serving [--rounds N] [--seconds S] [--clients 1,4,16] [--images N] [--model-base-path DIR]
     [any of the server's options, for all servers]
"""

from __future__ import annotations

import argparse
import os
import statistics
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np
from tensorflow_serving.apis import prediction_service_pb2_grpc

from benchmarks.echo import echo
from benchmarks.loads import TENSORFLOW, Seen, ask, cpu_s, engine_process, engines_here
from benchmarks.servers import request, serve
from serving.catalogue import find_version
from serving.starter import ensure_starter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass
class Target:
    """Something that is asked one request after another."""

    name: str
    load: Callable[[int, float], Seen]
    """Puts a load of so many clients on it for so many seconds."""
    pid: int
    """The process that answers."""
    rounds: dict[int, list[Seen]] = field(default_factory=dict)
    """Of each number of clients."""
    cpu_s: dict[int, list[float]] = field(default_factory=dict)
    """What the process took of a core for each answer, of the same rounds."""

    def measure(self, clients: int, seconds: float) -> None:
        """Put a load on it for a round."""
        before = cpu_s(self.pid)
        seen = self.load(clients, seconds)
        self.rounds.setdefault(clients, []).append(seen)
        self.cpu_s.setdefault(clients, []).append((cpu_s(self.pid) - before) / len(seen.latencies_s))

    def images_s(self, clients: int) -> list[float]:
        """Images a second, of each round."""
        return [seen.images_s for seen in self.rounds[clients]]

    def latency_ms(self, clients: int, share: float) -> float:
        """What this share of a round's requests took at most, median of the rounds."""
        return 1e3 * statistics.median(float(np.quantile(seen.latencies_s, share)) for seen in self.rounds[clients])

    def ratio(self, baseline: Target, clients: int) -> float:
        """Median of the rounds' ratios of images a second."""
        pairs = zip(self.images_s(clients), baseline.images_s(clients), strict=True)
        return statistics.median(own / its for own, its in pairs)

    def cpu_ratio(self, baseline: Target, clients: int) -> float:
        """Median of the rounds' ratios of what an answer takes of the cores, clients over gRPC left out."""
        return statistics.median(
            own / its for own, its in zip(self.cpu_s[clients], baseline.cpu_s[clients], strict=True)
        )

    def least_cost(self, alone: Target, clients: int) -> float:
        """Share of this engine's images that gRPC alone would cost on the same cores, median of the rounds."""
        pairs = zip(self.images_s(clients), alone.images_s(clients), strict=True)
        return statistics.median(own / (own + its) for own, its in pairs)


def over_grpc(address: str, images: int) -> Callable[[int, float], Seen]:
    """A load on the server there, of so many images a request; each client has a connection of its own."""
    asked = request(batch=images)
    asked.output_filter.append("scores")

    def client() -> Callable[[], object]:
        channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        return lambda: stub.Predict(asked, timeout=120)

    return lambda clients, seconds: ask(client, clients, seconds, images)


def server_options(engine: str) -> tuple[str, ...]:
    """The server's options for an engine."""
    return () if engine == TENSORFLOW else ("--engine", "openvino", "--precision", engine)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each target in each round")
    parser.add_argument("--clients", default="1,4,16")
    parser.add_argument("--images", type=int, default=1, help="in each request; a worker of Earshot's sends up to 16")
    parser.add_argument("--model-base-path", type=Path, help="another model than the starter")
    options, more = parser.parse_known_args()
    numbers = [int(number) for number in options.clients.split(",")]
    base_path = options.model_base_path
    version_dir = find_version(base_path or ensure_starter()).folder
    pairs: list[tuple[Target, Target]] = []
    servers = {}
    with ExitStack() as stack:
        for name in engines_here(version_dir):
            load, pid = stack.enter_context(engine_process(name, version_dir, options.images))
            servers[name] = server = stack.enter_context(serve(base_path, *server_options(name), *more))
            through = Target(f"{name}, gRPC", over_grpc(server.address, options.images), server.process.pid)
            pairs.append((Target(f"{name}, in process", load, pid), through))
        address, pid = stack.enter_context(echo())
        alone = Target("gRPC alone", over_grpc(address, options.images), pid)
        targets = [*(target for pair in pairs for target in pair), alone]
        for target in targets:
            target.load(1, options.seconds)
        for _ in range(options.rounds):
            for clients in numbers:
                for target in targets:
                    target.measure(clients, options.seconds)
        memory_mb = {name: server.memory_mb() for name, server in servers.items()}
    print(
        f"{options.rounds} rounds of {options.seconds:g} s, medians; {os.cpu_count()} cores; "
        f"images of 128x301x3, {options.images} a request"
    )
    _print_speed(targets, numbers)
    _print_costs(pairs, alone, numbers)
    print("\n| server | command to AVAILABLE, s | memory after the load, MB |")
    print("| --- | ---: | ---: |")
    for name, server in servers.items():
        print(f"| {name} | {server.start_s:.1f} | {memory_mb[name]:.0f} |")


def _print_speed(targets: Sequence[Target], numbers: Sequence[int]) -> None:
    """Of each number of clients; the first target is what the others are compared with."""
    print("\n| engine | clients | images/s | x TensorFlow | p50, ms | p99, ms |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for clients in numbers:
        for target in targets:
            print(
                f"| {target.name} | {clients} | {statistics.median(target.images_s(clients)):.1f} "
                f"| {target.ratio(targets[0], clients):.2f} "
                f"| {target.latency_ms(clients, 0.5):.1f} | {target.latency_ms(clients, 0.99):.1f} |"
            )


def _print_costs(pairs: Sequence[tuple[Target, Target]], alone: Target, numbers: Sequence[int]) -> None:
    """Shares of what each engine does in a process by itself: of its images/s lost, of its CPU time added."""
    print("\n| cost of gRPC | clients | images/s, clients included | CPU of the server | images/s of gRPC alone |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for clients in numbers:
        for engine, through in pairs:
            print(
                f"| {through.name} | {clients} | {1 - through.ratio(engine, clients):.1%} "
                f"| {through.cpu_ratio(engine, clients) - 1:.1%} | {engine.least_cost(alone, clients):.1%} |"
            )


if __name__ == "__main__":
    main()
