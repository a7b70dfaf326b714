"""Clients that ask one request after another, and engines in processes of their own to ask: for the benchmarks.

Run as a module it is such a process: it loads an engine, reads how many clients ask for how many seconds, and for how
many images at once, a line each, from its standard input, and answers each with a line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from serving.engines.engine import Engine

TENSORFLOW = "tensorflow"


@dataclass(frozen=True, slots=True)
class Seen:
    """What clients saw in one round."""

    images_s: float
    latencies_s: list[float]


def ask(client: Callable[[], Callable[[], object]], clients: int, seconds: float, images: int = 1) -> Seen:
    """What so many clients see that ask for so long; `client` makes what one of them calls, for `images` each time."""
    times: list[list[float]] = [[] for _ in range(clients)]
    calls = [client() for _ in range(clients)]
    began = time.perf_counter()

    def loop(call: Callable[[], object], own: list[float]) -> None:
        while (started := time.perf_counter()) < began + seconds:
            call()
            own.append(time.perf_counter() - started)

    threads = [threading.Thread(target=loop, args=pair) for pair in zip(calls, times, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    return Seen(images * sum(map(len, times)) / took, [one for own in times for one in own])


@contextmanager
def engine_process(
    engine: str, version_dir: Path, images: int = 1
) -> Iterator[tuple[Callable[[int, float], Seen], int]]:
    """An engine, by its name, in a process of its own: what puts a load on it, of `images` a call, and its id."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.loads", engine, str(version_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        stdin, stdout = process.stdin, process.stdout

        def load(clients: int, seconds: float) -> Seen:
            stdin.write(f"{clients} {seconds} {images}\n")
            stdin.flush()
            return Seen(**json.loads(stdout.readline()))

        try:
            yield load, process.pid
        finally:
            stdin.close()


def cpu_s(pid: int) -> float:
    """Seconds of a core that a process has taken so far, in its own code and in the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def engines_here(version_dir: Path) -> list[str]:
    """The engines that can run this version on this CPU: `tensorflow`, and precisions of OpenVINO's."""
    from serving.engines.openvino_engine import Precision, computes_bf16
    from serving.layout import INT8_FILE

    left_out = set()
    if not computes_bf16():
        left_out.add(Precision.BF16)
        print("not compared in bfloat16: this CPU has it not")
    if not (version_dir / INT8_FILE).is_file():
        left_out.add(Precision.INT8)
        print("not compared in 8 bits: `earshot models quantize` has not been run")
    return [TENSORFLOW, *(each.value for each in Precision if each not in left_out)]


def load_engine(name: str, version_dir: Path) -> Engine:
    """The engine of this name, with the version loaded."""
    if name == TENSORFLOW:
        from serving.engines.tensorflow_engine import TensorFlowEngine

        return TensorFlowEngine(version_dir)
    from serving.engines.openvino_engine import OpenVinoEngine, Precision

    return OpenVinoEngine(version_dir, Precision(name))


def main() -> None:
    """Answer loads until the standard input ends."""
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries say is no answer
    import numpy as np

    engine = load_engine(sys.argv[1], Path(sys.argv[2]))
    for line in sys.stdin:
        clients, seconds, images = line.split()
        values: Any = np.random.default_rng(0).integers(0, 256, (int(images), 128, 301, 3)).astype(np.uint8)
        run = partial(engine.run, "serving_default", {"spectrogram": values}, ["scores"])
        seen = ask(lambda run=run: run, int(clients), float(seconds), int(images))  # type: ignore[misc]
        answers.write(json.dumps(asdict(seen)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
