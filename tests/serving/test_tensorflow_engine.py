"""Signatures of others that do not fit their graph."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import tensorflow as tf

from serving.engines.tensorflow_engine import TensorFlowEngine
from serving.modelserver.errors import ServingError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

v1 = tf.compat.v1
INPUT = np.array([1.0, 2.0], np.float32)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TensorFlowEngine]:
    folder = tmp_path_factory.mktemp("signatures") / "1"
    write_odd_signatures(folder)
    loaded = TensorFlowEngine(folder)
    yield loaded
    loaded.close()


def write_odd_signatures(path: Path) -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None], name="x")
        y = v1.saved_model.build_tensor_info(tf.identity(x + 1, name="y"))
        taken = v1.saved_model.build_tensor_info(x)
        gone, malformed, sparse = type(taken)(), type(taken)(), type(taken)()
        for info in (gone, malformed, sparse):
            info.CopyFrom(taken)
        gone.name, malformed.name = "nothing:0", "x:one"
        sparse.coo_sparse.values_tensor_name = "x:0"

        def signature(inputs: dict[str, Any], outputs: dict[str, Any]) -> Any:
            return v1.saved_model.build_signature_def(inputs, outputs, "tensorflow/serving/predict")

        builder = v1.saved_model.Builder(str(path))
        signatures = {
            "whole": signature({"x": taken}, {"y": y}),
            "what goes in comes out": signature({"x": taken}, {"y": taken}),
            "twice the same": signature({"x": taken, "again": taken}, {"y": y}),
            "output gone": signature({"x": taken}, {"y": gone}),
            "output malformed": signature({"x": taken}, {"y": malformed}),
            "output sparse": signature({"x": taken}, {"y": sparse}),
            "input sparse": signature({"x": sparse}, {"y": y}),
        }
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()


def test_nothing_is_said_of_the_loader_that_tensorflow_calls_old(tmp_path: Path) -> None:
    write_odd_signatures(tmp_path / "1")
    code = """
import sys
from pathlib import Path
from serving.engines.tensorflow_engine import TensorFlowEngine, tf
TensorFlowEngine(Path(sys.argv[1])).close()
tf.get_logger().warning("something else")
"""
    command = [sys.executable, "-c", code, str(tmp_path / "1")]  # its own process, as it is said once in each
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert "something else" in said
    assert "saved_model" not in said


@pytest.mark.parametrize(
    ("signature", "inputs", "words"),
    [
        ("what goes in comes out", ["x"], "both fed and fetched"),
        ("twice the same", ["x", "again"], "fed more than once"),
        ("output gone", ["x"], "signature output gone of the model names 'nothing:0', which is no tensor"),
        ("output malformed", ["x"], "names 'x:one'"),
        ("output sparse", ["x"], "names ''"),
        ("input sparse", ["x"], ""),
    ],
)
def test_a_signature_that_its_graph_cannot_answer_is_invalid_and_says_why(
    engine: TensorFlowEngine, signature: str, inputs: list[str], words: str
) -> None:
    with pytest.raises(ServingError) as caught:
        engine.run(signature, dict.fromkeys(inputs, INPUT), ["y"])
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert words in caught.value.message
    assert engine.run("whole", {"x": INPUT}, ["y"])["y"].tolist() == [2.0, 3.0]
