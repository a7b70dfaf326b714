"""Overloads the server: requests come at four times the rate that it can answer, whether or not it answers.

Says how the requests ended, what memory the server had, and after how long a single request took its usual time again.

Run: python -m benchmarks.overload [--seconds S] [--deadline S] [--enable-batching ...]
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections import Counter
from typing import Any

import grpc
from tensorflow_serving.apis import prediction_service_pb2_grpc

from benchmarks.servers import Server, request, serve

TIMES = 4
CLIENTS = 8
"""Channels that requests come over."""
RECOVERED = 1.5
"""Latency is back when it is at most so many times what it was."""


def latency_s(server: Server) -> float:
    """Seconds of one request."""
    started = time.perf_counter()
    server.predict(request())
    return time.perf_counter() - started


def capacity(server: Server, seconds: float) -> float:
    """Requests a second that clients get answered that ask one after another."""
    answered = 0
    done = time.monotonic() + seconds
    lock = threading.Lock()

    def ask() -> None:
        nonlocal answered
        while time.monotonic() < done:
            server.predict(request())
            with lock:
                answered += 1

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answered / seconds


def overload(server: Server, rate: float, seconds: float, deadline_s: float) -> tuple[Counter[str], float]:
    """How requests at this rate ended, by code, and the most memory that the server had meanwhile."""
    ended: Counter[str] = Counter()
    pending = threading.Semaphore(0)
    asked, most = request(), 0.0
    channels = [grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) for _ in range(CLIENTS)]
    stubs = [prediction_service_pb2_grpc.PredictionServiceStub(channel) for channel in channels]

    def note(future: Any) -> None:
        ended[future.code().name] += 1
        pending.release()

    started, sent = time.monotonic(), 0
    while (now := time.monotonic()) < started + seconds:
        while sent < (now - started) * rate:
            stubs[sent % CLIENTS].Predict.future(asked, timeout=deadline_s).add_done_callback(note)
            sent += 1
        most = max(most, server.memory_mb())
        time.sleep(0.005)
    for _ in range(sent):
        pending.acquire()
    for channel in channels:
        channel.close()
    return ended, most


def recovery_s(server: Server, usual_s: float) -> float:
    """Seconds until a request takes its usual time again."""
    started = time.monotonic()
    while latency_s(server) > RECOVERED * usual_s:
        pass
    return time.monotonic() - started


def main() -> None:
    """Print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--deadline", type=float, default=2.0)
    options, more = parser.parse_known_args()
    with serve(None, *more) as server:
        for _ in range(10):
            latency_s(server)
        usual = statistics.median(latency_s(server) for _ in range(20))
        rate = capacity(server, 10.0)
        before = server.memory_mb()
        ended, most = overload(server, TIMES * rate, options.seconds, options.deadline)
        recovered = recovery_s(server, usual)
        after = server.memory_mb()
    print(f"alone {1e3 * usual:.0f} ms; capacity {rate:.1f} requests/s; overloaded with {TIMES * rate:.0f}")
    print(f"{sum(ended.values())} requests in {options.seconds:.0f} s ended: {dict(ended)}")
    print(f"memory: {before:.0f} MB before, {most:.0f} MB at most, {after:.0f} MB after")
    print(f"a request took its usual time again {recovered:.2f} s after the end")


if __name__ == "__main__":
    main()
