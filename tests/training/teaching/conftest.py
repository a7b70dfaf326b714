"""A teacher that says how loud a sound is, and sounds for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import soundfile
from onnx import TensorProto, helper, numpy_helper

from earshot.labels import UNKNOWN
from tests.training.sounds import tone
from training.data.clips import Clip
from training.teaching.pieces import Pieces, cut_pieces

if TYPE_CHECKING:
    from pathlib import Path


def write_teacher(path: Path, samples: str | int = "samples") -> Path:
    """It says how loud a sound is, and how much of it is above its mean."""
    scale = numpy_helper.from_array(np.array([1.0, -2.0, 10.0], np.float32), "scale")
    nodes = [
        helper.make_node("Abs", ["sound"], ["loud"]),
        helper.make_node("ReduceMean", ["loud"], ["level"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["level", "scale"], ["said"]),
    ]
    graph = helper.make_graph(
        nodes,
        "teacher",
        [helper.make_tensor_value_info("sound", TensorProto.FLOAT, ["batch", samples])],
        [helper.make_tensor_value_info("said", TensorProto.FLOAT, ["batch", 3])],
        [scale],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    return write_teacher(tmp_path / "teacher.onnx")


@pytest.fixture
def pieces(tmp_path: Path) -> Pieces:
    for name, seconds in (("short", 0.5), ("long", 200.0)):
        tone(tmp_path / "sounds" / f"{name}.wav", seconds)
    (tmp_path / "sounds" / "again.wav").write_bytes((tmp_path / "sounds" / "short.wav").read_bytes())
    (tmp_path / "sounds" / "broken.wav").write_bytes(b"no sound")
    soundfile.write(tmp_path / "sounds" / "silent.wav", np.zeros(16_000), 16_000)
    names = ("short", "long", "again", "broken", "silent")
    recordings = [Clip(tmp_path / "sounds" / f"{name}.wav", UNKNOWN, 1, name) for name in names]
    cut, unreadable = cut_pieces([recordings], tmp_path / "work")
    assert ["broken" in unreadable[0], "silent" in unreadable[1]] == [True, True]
    return cut


@pytest.fixture(autouse=True)
def _measures_norms_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.finetuning.learner.SETTLING_STEPS", 6)  # of so few views there is no more to be known
