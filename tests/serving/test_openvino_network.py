"""What becomes of a network that fails while it computes, and of those who asked it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from serving.engines.openvino_network import Compiled, CompiledNetwork
from serving.modelserver.errors import ServingError
from tests.serving.conftest import patiently
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    import openvino as ov
    from numpy.typing import NDArray

IMAGES = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1)
NO_MEMORY = "Exception from cpu_memory.cpp:257:\nFailed to allocate 462336000 bytes of memory"


@dataclass
class Model:
    """Answers each image with its value, in two streams, unless it is told to fail."""

    fails: dict[str, str | BaseException] = field(default_factory=dict)
    """What raises an error, `create`, `set`, `start` or `wait`, and with which text."""
    rows: int | None = None
    """Rows that each part is answered with, whatever it has."""
    takes: int | None = None
    """Images that it takes; None: any number."""
    waits: threading.Event | None = None
    """What each part takes until it is set."""
    requests: list[Request] = field(default_factory=list)

    outputs = ("scores",)

    def get_property(self, _: str) -> int:
        return 2

    def create_infer_request(self) -> Request:
        self.fail("create")
        self.requests.append(Request(self))
        return self.requests[-1]

    @property
    def made(self) -> int:
        return len(self.requests)

    def fail(self, at: str) -> None:
        if what := self.fails.get(at):
            raise RuntimeError(what) if isinstance(what, str) else what


@dataclass
class Request:
    model: Model
    part: NDArray[np.uint8] | None = None

    def set_input_tensor(self, tensor: ov.Tensor) -> None:
        self.model.fail("set")
        assert self.model.takes in {None, len(tensor.data)}
        self.part = tensor.data

    def start_async(self) -> None:
        self.model.fail("start")

    def wait(self) -> None:
        if self.model.waits:
            assert self.model.waits.wait(30)
        self.model.fail("wait")

    def get_output_tensor(self, _: int) -> Any:
        assert self.part is not None
        rows = self.part.reshape(-1, 1) if self.model.rows is None else np.zeros((self.model.rows, 1))
        return SimpleNamespace(data=rows.astype(np.float32))


@dataclass
class Factory:
    """Compiles the models that it was given, one after the other; a text in place of one is an error."""

    models: list[Model | str]
    compiled: int = 0
    single: Model | None = None
    """Of one image; None: the same model."""

    def __call__(self) -> Any:
        self.compiled += 1
        model = self.models.pop(0)
        if isinstance(model, str):
            raise RuntimeError(model)  # noqa: TRY004 - as OpenVINO
        return Compiled(model, self.single or model)


def network(*models: Model | str, pause_s: float = 0.01) -> tuple[CompiledNetwork, Factory]:
    factory = Factory(list(models))
    return CompiledNetwork(factory, [pause_s]), factory


def code_of(ask: Callable[[], object]) -> grpc.StatusCode:
    with pytest.raises(ServingError) as refused:
        ask()
    return refused.value.code


def test_a_batch_is_answered_in_order_and_its_requests_serve_the_next_one() -> None:
    model = Model()
    one, _ = network(model)
    for _ in range(3):
        (scores,) = one.compute(IMAGES)
        np.testing.assert_array_equal(scores, [[0], [1], [2], [3], [4]])
    assert model.made == one.streams == 2


def test_single_images_have_a_network_of_their_own() -> None:
    several, single = Model(), Model(takes=1)
    one = CompiledNetwork(Factory([several], single=single))
    np.testing.assert_array_equal(one.compute(IMAGES[:1])[0], [[0]])
    np.testing.assert_array_equal(one.compute(IMAGES[:2])[0], [[0], [1]])  # each in a stream
    assert (several.made, single.made) == (0, 2)
    for _ in range(3):
        np.testing.assert_array_equal(one.compute(IMAGES[:3])[0], [[0], [1], [2]])
    assert (several.made, single.made) == (1, 2)


@pytest.mark.parametrize("what", ["out of luck", MemoryError(), KeyboardInterrupt()], ids=repr)
def test_what_has_begun_is_waited_for_where_the_rest_cannot_begin(what: Any) -> None:
    going = threading.Event()
    several, single = Model({"wait": MemoryError()}, waits=going), Model({"start": what}, takes=1)
    one = CompiledNetwork(Factory([several, Model()], single=single), [60])
    ends: list[BaseException] = []

    def ask() -> None:
        try:
            one.compute(IMAGES[:3])
        except BaseException as error:
            ends.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    asking.join(0.2)
    assert asking.is_alive()  # the images of the first two are still read
    going.set()
    asking.join(30)
    assert [type(each) for each in ends] == [KeyboardInterrupt if isinstance(what, KeyboardInterrupt) else ServingError]
    one.close()


def test_images_are_read_where_they_are_also_where_they_must_not_be_written() -> None:
    model = Model()
    images = np.frombuffer(bytes(range(4)), dtype=np.uint8).reshape(4, 1, 1, 1)
    one, _ = network(model)
    np.testing.assert_array_equal(one.compute(images)[0], [[0], [1], [2], [3]])
    assert [np.shares_memory(each.part, images) for each in model.requests] == [True, True]


@pytest.mark.parametrize(
    ("what", "code"),
    [
        (NO_MEMORY, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (MemoryError(), grpc.StatusCode.RESOURCE_EXHAUSTED),
        ("no idea", grpc.StatusCode.INTERNAL),
    ],
    ids=str,
)
@pytest.mark.parametrize("at", ["create", "wait"])
def test_a_network_that_fails_is_compiled_anew(at: str, what: str | Exception, code: grpc.StatusCode) -> None:
    one, factory = network(Model({at: what}), Model())
    assert code_of(lambda: one.compute(IMAGES)) is code
    (scores,) = patiently(lambda: one.compute(IMAGES))
    np.testing.assert_array_equal(scores, [[0], [1], [2], [3], [4]])
    assert factory.compiled == 2


@pytest.mark.parametrize("at", ["set", "start"])
def test_images_that_the_network_does_not_take_leave_it_as_it_is(at: str) -> None:
    model = Model({at: "Check 'shape.compatible' failed"})
    one, factory = network(model)
    assert code_of(lambda: one.compute(IMAGES)) is grpc.StatusCode.INVALID_ARGUMENT
    model.fails.clear()
    assert len(one.compute(IMAGES)[0]) == 5
    assert factory.compiled == 1
    assert model.made == 4  # those that may still point to what was refused are not used again


@pytest.mark.parametrize("what", ["can't alloc", MemoryError()], ids=str)
@pytest.mark.parametrize("at", ["set", "start"])
def test_a_start_that_memory_does_not_suffice_for_is_no_fault_of_the_images(at: str, what: str | Exception) -> None:
    one, _ = network(Model({at: what}), Model())
    assert code_of(lambda: one.compute(IMAGES)) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(patiently(lambda: one.compute(IMAGES))[0]) == 5


def test_until_it_is_compiled_anew_whoever_asks_is_told_to_ask_again() -> None:
    one, factory = network(Model({"wait": NO_MEMORY}), Model(), pause_s=60)
    code_of(lambda: one.compute(IMAGES))
    assert code_of(lambda: one.compute(IMAGES)) is grpc.StatusCode.UNAVAILABLE
    assert factory.compiled == 1
    one.close()


def test_what_was_computed_beside_a_failure_is_not_believed() -> None:
    model = Model(waits=threading.Event())
    one, factory = network(model, Model(), pause_s=60)
    assert model.waits
    codes = []
    beside = threading.Thread(target=lambda: codes.append(code_of(lambda: one.compute(IMAGES))))
    beside.start()
    wait_for(lambda: model.made == 2, 30, "the batch beside it to begin")
    model.fails["create"] = NO_MEMORY
    assert code_of(lambda: one.compute(IMAGES)) is grpc.StatusCode.RESOURCE_EXHAUSTED
    model.waits.set()
    beside.join(30)
    assert codes == [grpc.StatusCode.UNAVAILABLE]
    assert factory.compiled == 1
    one.close()


def test_rows_that_are_not_those_of_the_images_are_not_believed() -> None:
    one, _ = network(Model(rows=2000), Model())
    assert code_of(lambda: one.compute(IMAGES)) is grpc.StatusCode.UNAVAILABLE
    assert len(patiently(lambda: one.compute(IMAGES))[0]) == 5


def test_it_is_tried_again_until_it_can_be_compiled() -> None:
    one, factory = network(Model({"wait": NO_MEMORY}), "can't alloc", "can't alloc", Model())
    code_of(lambda: one.compute(IMAGES))
    assert len(patiently(lambda: one.compute(IMAGES))[0]) == 5
    assert factory.compiled == 4


def test_where_no_thread_can_be_had_the_next_who_asks_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_there(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    one, factory = network(Model({"wait": "Resource temporarily unavailable"}), Model({"wait": NO_MEMORY}), Model())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_there)
        assert code_of(lambda: one.compute(IMAGES)) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert code_of(lambda: one.compute(IMAGES)) is grpc.StatusCode.UNAVAILABLE
    assert factory.compiled == 1
    assert code_of(lambda: patiently(lambda: one.compute(IMAGES))) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(patiently(lambda: one.compute(IMAGES))[0]) == 5
    assert factory.compiled == 3


def test_whatever_keeps_it_from_being_compiled_it_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    one, factory = network(Model({"wait": NO_MEMORY}), Model())
    compiled = factory.__call__
    short = [MemoryError()]

    def once_short() -> Any:
        if short:
            raise short.pop()
        return compiled()

    monkeypatch.setattr(one, "_compile", once_short)
    code_of(lambda: one.compute(IMAGES))
    assert len(patiently(lambda: one.compute(IMAGES))[0]) == 5


def test_one_that_is_closed_is_not_compiled_any_more() -> None:
    one, factory = network(Model({"wait": NO_MEMORY}), Model(), pause_s=60)
    code_of(lambda: one.compute(IMAGES))
    one.close()
    assert "recompile" not in {each.name for each in threading.enumerate()}
    assert factory.compiled == 1


def test_closing_waits_for_a_network_that_is_being_compiled() -> None:
    compiling, go = threading.Event(), threading.Event()
    models = [Model({"wait": NO_MEMORY})]

    def compiled() -> Any:
        if models:
            return Compiled(model := models.pop(), model)
        compiling.set()
        assert go.wait(30)
        return Compiled(Model(), Model())

    one = CompiledNetwork(compiled, [0.01])
    code_of(lambda: one.compute(IMAGES))
    assert compiling.wait(30)
    closing = threading.Thread(target=one.close)
    closing.start()
    closing.join(0.1)
    assert closing.is_alive()
    go.set()
    closing.join(30)
    assert not closing.is_alive()
    assert code_of(lambda: one.compute(IMAGES)) is grpc.StatusCode.UNAVAILABLE
