"""A version that was loaded: what is left of it when it is no longer served."""

from __future__ import annotations

import ctypes
import gc
import resource
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from serving.engines.tensorflow_engine import TensorFlowEngine
from serving.modelserver.loaded import Loaded, Retired
from tests.serving.engines import Doubler


def graphs_there_are() -> list[tf.Graph]:
    # By their type: isinstance asks a weak proxy, of which other tests leave some, for an object that may be gone.
    return [each for each in gc.get_objects() if type(each) is tf.Graph]


def test_what_tensorflow_holds_is_freed_when_a_version_is_retired(exported: Path) -> None:
    before = set(map(id, graphs_there_are()))
    loaded = Loaded(1, TensorFlowEngine(exported), 0.0)
    graphs = [weakref.ref(each) for each in graphs_there_are() if id(each) not in before]
    assert graphs
    done: list[Any] = []
    with loaded.lease() as engine:
        engine.run("serving_default", {"spectrogram": np.zeros((1, 128, 301, 3), np.uint8)}, ["scores"])
    loaded.retire(lambda: done.append([graph() for graph in graphs]))
    assert done == [[None] * len(graphs)]  # while `loaded` is still known, as it is to whoever unloads it


def test_nothing_of_an_engine_is_kept_once_it_is_closed() -> None:
    engine = weakref.ref(only := Doubler())
    loaded = Loaded(1, only, 0.0)
    del only
    done: list[Any] = []
    loaded.retire(lambda: done.append(engine()))
    assert done == [None]


def test_an_engine_that_cannot_be_closed_is_unloaded_all_the_same() -> None:
    class Stuck(Doubler):
        def close(self) -> None:
            raise MemoryError

    done: list[bool] = []
    Loaded(1, Stuck(), 0.0).retire(lambda: done.append(True))
    assert done == [True]


def test_where_no_thread_can_be_had_the_last_request_closes_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_there(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    engine = Doubler()
    loaded = Loaded(1, engine, 0.0)
    with loaded.lease():
        loaded.retire(lambda: None)
        monkeypatch.setattr(threading.Thread, "start", none_there)
        assert not engine.closed
    assert engine.closed


class _Scattered:
    """An engine whose memory lies in small pieces between others that stay."""

    def __init__(self, pieces: int) -> None:
        self.kept: list[bytes] = []
        self._freed: list[bytes] = []
        for number in range(pieces):
            (self._freed if number % 16 else self.kept).append(bytes(16_000))

    def close(self) -> None:
        self._freed.clear()


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="only glibc is asked for its free memory")
def test_the_memory_of_a_version_is_given_back_before_it_is_said_to_be_unloaded() -> None:
    def memory_mb() -> float:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 1e6

    engine: Any = _Scattered(10_000)  # 160 MB, of which 150 are to go
    loaded, before, after = Loaded(1, engine, 0.0), memory_mb(), list[float]()
    loaded.retire(lambda: after.append(memory_mb()))
    assert before - after[0] > 75


def test_leases_of_many_threads_and_a_retirement_never_meet_a_closed_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.modelserver.loaded._give_back", lambda: None)  # half a second beside TensorFlow
    for _ in range(50):
        engine = Doubler()
        loaded = Loaded(1, engine, 0.0)
        closed = threading.Event()
        met_closed: list[bool] = []

        def use(loaded: Loaded = loaded, engine: Doubler = engine, met_closed: list[bool] = met_closed) -> None:
            try:
                for _ in range(100):
                    with loaded.lease():
                        met_closed.append(engine.closed)
            except Retired:
                pass

        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        loaded.retire(closed.set)
        for thread in threads:
            thread.join()
        assert closed.wait(10)
        assert not any(met_closed)
        assert engine.closed
