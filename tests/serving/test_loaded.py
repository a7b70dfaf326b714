"""A version that was loaded: what is left of it when it is no longer served."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from serving.engines.tensorflow_engine import TensorFlowEngine
from serving.modelserver.loaded import Loaded

if TYPE_CHECKING:
    from pathlib import Path


def test_what_tensorflow_holds_is_freed_when_a_version_is_retired(exported: Path) -> None:
    before = {id(each) for each in gc.get_objects() if isinstance(each, tf.Graph)}
    loaded = Loaded(1, TensorFlowEngine(exported), 0.0)
    graphs = [weakref.ref(each) for each in gc.get_objects() if isinstance(each, tf.Graph) and id(each) not in before]
    assert graphs
    done: list[Any] = []
    with loaded.lease() as engine:
        engine.run("serving_default", {"spectrogram": np.zeros((1, 128, 301, 3), np.uint8)}, ["scores"])
    loaded.retire(lambda: done.append([graph() for graph in graphs]))
    assert done == [[None] * len(graphs)]  # while `loaded` is still known, as it is to whoever unloads it
