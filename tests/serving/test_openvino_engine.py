from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from serving.engines.int8 import Int8, NotQuantised, measure
from serving.engines.openvino_core import CORE
from serving.engines.openvino_engine import (
    BOUNDS,
    AnswersDiffer,
    CannotRun,
    OpenVinoEngine,
    Precision,
    _compiled,
    computes_bf16,
)
from serving.engines.openvino_network import Compiled
from serving.engines.tensorflow_engine import TensorFlowEngine
from serving.layout import INT8_FILE
from serving.modelserver.errors import ServingError
from tests.serving.conftest import CLASS_NAMES, THRESHOLDS, patiently

if TYPE_CHECKING:
    from collections.abc import Iterator

    import openvino as ov
    from numpy.typing import NDArray

ALL = ["scores", "classes", "thresholds"]
SHAPES: dict[str, tuple[str, Any, tuple[int, ...]]] = {
    "serving_default": ("spectrogram", np.uint8, (128, 301, 3)),
    "pcm": ("pcm", np.int16, (48_000,)),
}


def asked(signature: str, batch: int) -> dict[str, NDArray[Any]]:
    name, dtype, shape = SHAPES[signature]
    bounds = np.iinfo(dtype)
    values = np.random.default_rng(batch).integers(bounds.min, bounds.max, (batch, *shape), endpoint=True)
    return {name: values.astype(dtype)}


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that the tests share, as servers on one machine do."""
    return tmp_path_factory.mktemp("openvino")


@pytest.fixture(scope="session")
def quantised(exported: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported version with what 8 bits need."""
    folder = tmp_path_factory.mktemp("quantised") / "1"
    shutil.copytree(exported, folder)
    engine = OpenVinoEngine(exported, Precision.F32, cache)
    network = CORE.read_model(engine._converted.network)
    calibration = measure(network, np.random.default_rng(0).integers(0, 256, (8, 128, 301, 3)).astype(np.uint8))
    Int8(calibration, 8, 100, unseen=True, agreement=0.98, accuracy_float32=0.7, accuracy_int8=0.7).write(folder)
    return folder


@pytest.fixture(scope="session")
def own(exported: Path) -> Iterator[TensorFlowEngine]:
    """What the SavedModel itself answers."""
    engine = TensorFlowEngine(exported)
    yield engine
    engine.close()


@pytest.fixture(params=list(Precision))
def engine(request: pytest.FixtureRequest, quantised: Path, cache: Path) -> Iterator[OpenVinoEngine]:
    if request.param is Precision.BF16 and not computes_bf16():
        pytest.skip("this CPU does not compute in bfloat16")
    engine = OpenVinoEngine(quantised, request.param, cache)
    engine.precision = request.param  # type: ignore[attr-defined]
    yield engine
    engine.close()


_ONE_AFTER_THE_OTHER = """
import gc, signal, sys
from pathlib import Path
from serving.engines.openvino_engine import OpenVinoEngine, Precision
version_dir, cache = map(Path, sys.argv[1:])
first, second = (OpenVinoEngine(version_dir, Precision.F32, cache) for _ in range(2))
del first
gc.collect()
del second
gc.collect()
signal.signal(signal.SIGINT, lambda *_: print("caught"))
signal.raise_signal(signal.SIGINT)
"""


def test_signals_are_caught_after_engines_have_come_and_gone(exported: Path, cache: Path) -> None:
    command = [sys.executable, "-c", _ONE_AFTER_THE_OTHER, str(exported), str(cache)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout.splitlines()[-1:]) == (0, ["caught"]), ended.stderr


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("signature", list(SHAPES))
def test_each_precision_answers_as_the_saved_model_does_within_its_bound(
    engine: Any, own: TensorFlowEngine, signature: str, batch: int
) -> None:
    inputs = asked(signature, batch)
    answers, wanted = engine.run(signature, inputs, ALL), own.run(signature, inputs, ALL)
    assert {name: (each.shape, each.dtype) for name, each in answers.items()} == {
        name: (each.shape, each.dtype) for name, each in wanted.items()
    }
    np.testing.assert_allclose(answers["scores"], wanted["scores"], atol=BOUNDS[engine.precision])
    assert [name.decode() for name in answers["classes"][-1]] == CLASS_NAMES
    np.testing.assert_array_equal(answers["thresholds"], [THRESHOLDS] * batch)


@pytest.mark.parametrize("batch", [1, 2 * (os.cpu_count() or 1) + 1])
def test_images_are_read_wherever_they_lie_and_nothing_is_written_there(engine: Any, batch: int) -> None:
    (images,) = asked("serving_default", batch).values()
    sent = b"." + images.tobytes()
    places = (
        images,
        np.frombuffer(sent, np.uint8, offset=1).reshape(images.shape),  # may not be written to, nor is it aligned
        np.repeat(images, 2, axis=2)[:, :, ::2],  # one value in six
    )
    own, *others = [engine.run("serving_default", {"spectrogram": each}, ["scores"])["scores"] for each in places]
    for scores in others:
        np.testing.assert_array_equal(scores, own)
    assert sent == b"." + images.tobytes()


def test_float32_is_float32_on_a_cpu_that_has_bfloat16(quantised: Path, own: TensorFlowEngine, cache: Path) -> None:
    inputs = asked("serving_default", 4)
    wanted = own.run("serving_default", inputs, ["scores"])["scores"]

    def apart(precision: Precision) -> float:
        engine = OpenVinoEngine(quantised, precision, cache)
        return float(np.abs(engine.run("serving_default", inputs, ["scores"])["scores"] - wanted).max())

    assert apart(Precision.F32) < 1e-6
    assert apart(Precision.INT8) > 1e-4
    if computes_bf16():
        assert apart(Precision.BF16) > 1e-4


def test_the_signatures_are_those_of_the_saved_model(quantised: Path, own: TensorFlowEngine, cache: Path) -> None:
    signatures = OpenVinoEngine(quantised, Precision.F32, cache).signature_defs
    assert signatures == own.signature_defs


def test_only_what_is_asked_for_is_answered_and_computed(
    quantised: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = OpenVinoEngine(quantised, Precision.F32, cache)
    inputs = asked("serving_default", 2)
    assert set(engine.run("serving_default", inputs, ["scores", "classes"])) == {"scores", "classes"}
    monkeypatch.setattr(engine, "_network", None)  # nothing can be computed any more
    assert engine.run("serving_default", inputs, ["classes"])["classes"].shape == (2, len(CLASS_NAMES))
    with pytest.raises(AttributeError):
        engine.run("serving_default", inputs, ["scores"])


@pytest.mark.parametrize("signature", list(SHAPES))
def test_an_empty_batch_has_an_empty_answer(quantised: Path, cache: Path, signature: str) -> None:
    answers = OpenVinoEngine(quantised, Precision.F32, cache).run(signature, asked(signature, 0), ALL)
    assert {name: each.shape for name, each in answers.items()} == dict.fromkeys(ALL, (0, len(CLASS_NAMES)))


def test_many_threads_at_once_each_get_their_own_answer(quantised: Path, own: TensorFlowEngine, cache: Path) -> None:
    engine = OpenVinoEngine(quantised, Precision.F32, cache)
    inputs = [asked(signature, batch) for batch in (1, 2, 3, 7) for signature in SHAPES]
    signatures = [signature for _ in range(4) for signature in SHAPES]

    def answers(one: TensorFlowEngine | OpenVinoEngine, number: int) -> NDArray[np.float32]:
        return one.run(signatures[number], inputs[number], ["scores"])["scores"]

    wanted = [answers(own, number) for number in range(len(inputs))]
    numbers = list(range(len(inputs))) * 8
    with ThreadPoolExecutor(8) as pool:
        for number, scores in zip(numbers, pool.map(lambda number: answers(engine, number), numbers), strict=True):
            np.testing.assert_allclose(scores, wanted[number], atol=BOUNDS[Precision.F32])


def test_what_the_network_cannot_take_is_refused_and_the_engine_goes_on(quantised: Path, cache: Path) -> None:
    engine = OpenVinoEngine(quantised, Precision.F32, cache)
    wrong = np.zeros((5, 64, 301, 3), np.uint8)
    with pytest.raises(ServingError, match="must have shape") as failure:
        engine.run("serving_default", {"spectrogram": wrong}, ["scores"])
    assert failure.value.code is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(ServingError, match="OpenVINO cannot run") as failure:
        engine._network.compute(wrong)
    assert failure.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert len(engine.run("serving_default", asked("serving_default", 5), ["scores"])["scores"]) == 5


@contextmanager
def memory_short(more: int) -> Iterator[None]:
    """Within, this process gets no more than so many bytes of address space besides what it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_a_batch_that_memory_does_not_suffice_for_is_no_fault_of_the_request_and_leaves_nothing_behind(
    quantised: Path, own: TensorFlowEngine, cache: Path
) -> None:
    engine = OpenVinoEngine(quantised, Precision.F32, cache)
    small, large = asked("serving_default", 5), {"spectrogram": np.zeros((4000, 128, 301, 3), np.uint8)}
    wanted = own.run("serving_default", small, ["scores"])["scores"]
    for _ in range(2):
        with memory_short(300_000_000), pytest.raises(ServingError, match="Failed to allocate") as failure:
            engine.run("serving_default", large, ["scores"])
        assert failure.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        for _ in range(4):  # through each stream
            scores = patiently(lambda: engine.run("serving_default", small, ["scores"])["scores"])
            np.testing.assert_allclose(scores, wanted, atol=BOUNDS[Precision.F32])


def test_8_bits_are_refused_without_what_they_need_and_the_message_names_the_command(
    exported: Path, cache: Path
) -> None:
    with pytest.raises(NotQuantised, match="earshot models quantize --model-base-path"):
        OpenVinoEngine(exported, Precision.INT8, cache)


def changed(version: Path, folder: Path, **values: Any) -> Path:
    """A copy of a quantised version whose file says something else."""
    shutil.copytree(version, folder)
    path = folder / INT8_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return folder


def test_8_bits_are_refused_where_they_name_too_many_clips_differently(
    quantised: Path, cache: Path, tmp_path: Path
) -> None:
    with pytest.raises(NotQuantised, match=r"only 90\.0% of 100 clips .* --precision bf16 or f32"):
        OpenVinoEngine(changed(quantised, tmp_path / "1", agreement=0.9), Precision.INT8, cache)


@pytest.mark.parametrize(
    "values",
    [
        {"calibration": {"ranges": [{"shape": [7, 7, 7], "low": 0, "high": 1}], "corrections": [], "kernels": []}},
        {"calibration": {"ranges": [], "corrections": [], "kernels": []}},
        {"calibration": {"ranges": [{}], "corrections": [], "kernels": []}},
        {"calibration": {"ranges": []}},
        {"calibration": None},
        {"agreement": None},
    ],
)
def test_a_file_of_another_network_or_of_no_sense_is_refused(
    quantised: Path, cache: Path, tmp_path: Path, values: dict[str, Any]
) -> None:
    with pytest.raises(NotQuantised, match="earshot models quantize"):
        OpenVinoEngine(changed(quantised, tmp_path / "1", **values), Precision.INT8, cache)


def test_8_bits_are_computed_in_8_bits(quantised: Path, cache: Path) -> None:
    engine = OpenVinoEngine(quantised, Precision.INT8, cache)
    networks = engine._network._current
    assert networks
    assert networks.of(1).model.input().get_partial_shape().is_static
    assert networks.of(2).model.input().get_partial_shape().is_dynamic
    for images in (1, 2):
        model = networks.of(images).model.get_runtime_model()
        about = [node.get_rt_info() for node in model.get_ordered_ops()]
        convolutions = [each for each in about if each["layerType"].astype(str) == "Convolution"]
        assert [each["runtimePrecision"].astype(str) for each in convolutions] == ["u8", "u8"]


@pytest.mark.parametrize("what", ["ranges", "corrections"])
def test_a_calibration_that_does_not_fit_makes_answers_that_are_refused(
    quantised: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setitem(BOUNDS, Precision.INT8, 0.02)  # whatever a network so small is given, it is nearly as unsure
    calibration = json.loads((quantised / INT8_FILE).read_text())["calibration"]
    first, second = calibration[what]
    wrong = {**second, "high": 0.01} if what == "ranges" else [-100.0] * len(second)
    version = changed(quantised, tmp_path / "1", calibration={**calibration, what: [first, wrong]})
    with pytest.raises(AnswersDiffer, match="--precision f32"):
        OpenVinoEngine(version, Precision.INT8, cache)


def test_bfloat16_is_refused_where_the_cpu_has_it_not(
    exported: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CORE, "get_property", lambda *_: ["FP32", "INT8"])
    with pytest.raises(CannotRun, match="--precision f32"):
        OpenVinoEngine(exported, Precision.BF16, cache)


def test_answers_far_from_the_saved_models_are_refused(
    exported: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BOUNDS, Precision.F32, 1e-12)
    with pytest.raises(AnswersDiffer, match="--engine tensorflow"):
        OpenVinoEngine(exported, Precision.F32, cache)


class Off:
    """A compiled network of eight streams, as on a larger machine, whose scores are off."""

    def __init__(self, model: Any, by: float) -> None:
        self.model, self.by = model, by
        self.outputs = model.outputs

    def get_property(self, _: str) -> int:
        return 8

    def create_infer_request(self) -> Any:
        return OffRequest(self.model.create_infer_request(), self.by)


class OffRequest:
    def __init__(self, request: ov.InferRequest, by: float) -> None:
        self.request, self.by = request, by

    def __getattr__(self, name: str) -> Any:
        return getattr(self.request, name)

    def get_output_tensor(self, number: int) -> Any:
        return SimpleNamespace(data=self.request.get_output_tensor(number).data + self.by)


@pytest.mark.parametrize("by", [0.5, np.nan])
@pytest.mark.parametrize("which", ["several", "single"])
def test_either_network_is_compared_with_the_saved_model(
    exported: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, which: str, by: float
) -> None:
    def compiled(*of: Any) -> Compiled:
        right = _compiled(*of)
        off = {"several": 0.0, "single": 0.0, which: by}
        return Compiled(Off(right.several, off["several"]), Off(right.single, off["single"]))

    monkeypatch.setattr("serving.engines.openvino_engine._compiled", compiled)
    with pytest.raises(AnswersDiffer):
        OpenVinoEngine(exported, Precision.F32, cache)


def test_a_network_that_failed_is_compiled_anew_where_the_cache_has_forgotten_it(
    quantised: Path, own: TensorFlowEngine, tmp_path: Path
) -> None:
    engine = OpenVinoEngine(quantised, Precision.F32, tmp_path / "cache")
    shutil.rmtree(engine._converted.network.parent)
    networks = engine._network._current
    assert networks
    engine._network._give_up(networks, "a failure")
    inputs = asked("serving_default", 2)
    scores = patiently(lambda: engine.run("serving_default", inputs, ["scores"])["scores"], timeout_s=120)
    np.testing.assert_allclose(scores, own.run("serving_default", inputs, ["scores"])["scores"], atol=1e-4)
