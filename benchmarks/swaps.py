"""Swaps versions under constant load: newer ones and two rollbacks, while clients ask one request after another.

Says how many requests failed, how many were answered by another version than the one that was reported before they were
sent, and what memory the server had before, after each swap, and in the end.

Run: python -m benchmarks.swaps [--clients N] [--swaps N] [--seconds S] [--engine openvino ...]
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import grpc

from benchmarks.servers import Server, request, serve
from serving.catalogue import roll_back
from serving.starter import ensure_starter

ROLLBACKS = 2


class Load:
    """Clients that ask one request after another."""

    def __init__(self, server: Server, clients: int) -> None:
        self.answers: list[tuple[float, int]] = []
        """When each request was sent, and the version that answered."""
        self.failures: Counter[str] = Counter()
        self._server = server
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let the clients finish."""
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        asked = request()
        with grpc.insecure_channel(self._server.address) as channel:
            own = self._server.through(channel)
            while not self._done.is_set():
                sent = time.monotonic()
                try:
                    self.answers.append((sent, own.predict(asked).model_spec.version.value))
                except grpc.RpcError as error:
                    self.failures[error.code().name] += 1


def publish_copy(base_path: Path, source: Path, version: int) -> None:
    """Publish a copy of a version as another, by an atomic rename."""
    hidden = base_path / f".{version}"
    shutil.copytree(source, hidden)
    hidden.rename(base_path / str(version))


def wait_until_served(server: Server, version: int) -> float:
    """When the version was reported to be available."""
    while server.states().get(version) != "AVAILABLE":
        time.sleep(0.02)
    return time.monotonic()


def main() -> None:
    """Print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--swaps", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=5.0, help="between two swaps")
    options, more = parser.parse_known_args()
    starter = ensure_starter() / "1"
    with tempfile.TemporaryDirectory() as folder:
        base_path = Path(folder)
        publish_copy(base_path, starter, 1)
        with serve(base_path, "--file-system-poll-wait-seconds", "0.2", *more) as server:
            load = Load(server, options.clients)
            time.sleep(4 * options.seconds)
            before, most = server.memory_mb(), 0.0
            after_each: list[float] = []
            reported: list[tuple[float, int]] = []
            for version in range(2, 2 + options.swaps + ROLLBACKS):
                if version < 2 + options.swaps:
                    publish_copy(base_path, starter, version)
                else:
                    roll_back(base_path)
                reported.append((wait_until_served(server, version), version))
                most = max(most, server.memory_mb())
                time.sleep(options.seconds)
                after_each.append(server.memory_mb())
            time.sleep(2 * options.seconds)
            after = server.memory_mb()
            load.stop()
    wrong = sum(version < max((v for at, v in reported if at < sent), default=0) for sent, version in load.answers)
    print(f"{options.clients} clients, {options.swaps} swaps, {ROLLBACKS} rollbacks")
    print(f"answered {len(load.answers)}, failed {sum(load.failures.values())} {dict(load.failures)}")
    print(f"answered by an older version than the one reported before the request was sent: {wrong}")
    print(f"versions that answered: {sorted({version for _, version in load.answers})}")
    print(f"memory after each swap and rollback, MB: {' '.join(f'{each:.0f}' for each in after_each)}")
    print(f"memory: {before:.0f} MB before, {most:.0f} MB at most, {after:.0f} MB after ({after / before - 1:+.1%})")


if __name__ == "__main__":
    main()
