"""Dynamic batching: which requests run together, and what becomes of those that cannot."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from prometheus_client import CollectorRegistry

from serving.modelserver.batching import BatchingRunner
from serving.modelserver.batching_policy import BatchingPolicy, read_batching
from serving.modelserver.errors import ServingError
from serving.modelserver.loaded import Loaded
from serving.modelserver.metrics import BatchingMetrics
from serving.modelserver.model_config import InvalidConfig
from tests.serving.conftest import metrics, predict_request, serve
from tests.serving.engines import Doubler

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


def batching(work: Callable[[BatchingRunner, Loaded], Awaitable[Any]], engine: Doubler, **policy: Any) -> Any:
    """The result of `work` with a runner of this policy over `engine`."""

    async def main() -> Any:
        runner = BatchingRunner(BatchingPolicy(**{"threads": 1, **policy}), BatchingMetrics(CollectorRegistry()))
        try:
            return await work(runner, Loaded(1, engine, 0.0))
        finally:
            runner.close()

    return asyncio.run(main())


def column(*values: float) -> Any:
    return np.array(values, np.float32)[:, None]


async def ask(runner: BatchingRunner, loaded: Loaded, x: Any) -> Any:
    return (await runner.run(loaded, "serving_default", {"x": x}, ["y"]))["y"]


async def ask_all(runner: BatchingRunner, loaded: Loaded, *xs: Any) -> list[Any]:
    return await asyncio.gather(*(ask(runner, loaded, x) for x in xs), return_exceptions=True)


def sizes(engine: Doubler) -> list[int]:
    return [len(inputs["x"]) for inputs in engine.ran]


def code_of(answer: Any) -> grpc.StatusCode:
    assert isinstance(answer, ServingError), answer
    return answer.code


def test_requests_that_come_together_run_as_one_and_each_gets_its_own_rows() -> None:
    engine = Doubler()
    xs = [column(1), column(2, 3), column(4)]
    answers = batching(lambda *to: ask_all(*to, *xs), engine, timeout_s=0.05)
    assert sizes(engine) == [4]
    for x, answer in zip(xs, answers, strict=True):
        np.testing.assert_array_equal(answer, x * 2)


def test_a_full_batch_does_not_wait() -> None:
    engine = Doubler()
    batching(lambda *to: asyncio.wait_for(ask_all(*to, *[column(1)] * 4), 10), engine, timeout_s=1000, max_batch_size=2)
    assert sizes(engine) == [2, 2]


def test_a_request_that_does_not_fit_into_the_batch_begins_the_next() -> None:
    engine = Doubler()
    batching(lambda *to: ask_all(*to, column(1, 2), column(3, 4)), engine, timeout_s=0.05, max_batch_size=3)
    assert sizes(engine) == [2, 2]


def test_a_request_of_more_rows_than_a_batch_has_is_invalid_or_split() -> None:
    engine = Doubler()
    (refused,) = batching(lambda *to: ask_all(*to, column(1, 2, 3)), engine, max_batch_size=2)
    assert code_of(refused) is grpc.StatusCode.INVALID_ARGUMENT
    assert "Task size 3 is larger than maximum input batch size 2" in refused.message
    split = {"max_batch_size": 4, "max_execution_size": 2, "split_large": True}
    (answer,) = batching(lambda *to: ask_all(*to, column(1, 2, 3)), engine, **split)
    assert answer.tolist() == [[2.0], [4.0], [6.0]]
    assert sorted(sizes(engine)) == [1, 2]


def test_a_request_that_is_split_fills_up_the_batch_that_waits() -> None:
    engine = Doubler()
    xs = [column(*range(start, start + 6)) for start in (0, 10, 20)]
    policy = {"max_batch_size": 8, "max_execution_size": 4, "split_large": True, "max_enqueued_batches": 5}
    answers = batching(lambda *to: ask_all(*to, *xs), engine, timeout_s=0.05, **policy)
    for x, answer in zip(xs, answers, strict=True):
        np.testing.assert_array_equal(answer, x * 2)
    assert sorted(sizes(engine)) == [2, 4, 4, 4, 4]


def test_a_request_is_not_cut_for_a_batch_that_cannot_take_the_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.modelserver.batching.MOST_PADDED_BYTES", 60)
    engine = Doubler()
    xs = [np.ones((3, 1), np.float32), np.ones((8, 4), np.float32)]
    split = {"max_batch_size": 8, "max_execution_size": 4, "split_large": True, "max_enqueued_batches": 3}
    answers = batching(lambda *to: ask_all(*to, *xs), engine, timeout_s=0.05, pad_variable_length=True, **split)
    assert [np.shape(answer) for answer in answers] == [(3, 1), (8, 4)]
    assert sorted(sizes(engine)) == [3, 4, 4]


def test_a_batch_that_waits_for_a_thread_goes_on_filling() -> None:
    engine = Doubler()
    engine.go.clear()

    async def work(runner: BatchingRunner, loaded: Loaded) -> list[Any]:
        asked = []
        for number in range(20):
            asked.append(asyncio.ensure_future(ask(runner, loaded, column(number))))
            await asyncio.sleep(0.005)
        engine.go.set()
        return await asyncio.gather(*asked, return_exceptions=True)

    answers = batching(work, engine, max_batch_size=100, max_enqueued_batches=1)
    assert [answer.tolist() for answer in answers] == [[[2.0 * number]] for number in range(20)]
    assert sizes(engine) == [1, 19]


def test_what_waits_is_bounded_whatever_the_shapes_and_however_few_the_rows() -> None:
    engine = Doubler()
    engine.go.clear()
    xs = [np.ones((1, width), np.float32) for width in range(1, 21)] + [np.ones((0, 1), np.float32)] * 20

    async def work(runner: BatchingRunner, loaded: Loaded) -> list[Any]:
        asked = [asyncio.ensure_future(ask(runner, loaded, x)) for x in xs]
        await asyncio.sleep(0.1)
        engine.go.set()
        return await asyncio.gather(*asked, return_exceptions=True)

    answers = batching(work, engine, max_batch_size=4, max_enqueued_batches=3)
    answered = [answer for answer in answers if not isinstance(answer, ServingError)]
    assert len(answered) <= 4 * 4


def test_a_request_whose_parts_do_not_all_find_room_runs_none_of_them() -> None:
    engine = Doubler()
    engine.go.clear()

    async def work(runner: BatchingRunner, loaded: Loaded) -> list[Any]:
        first = asyncio.ensure_future(ask(runner, loaded, column(0)))
        await asyncio.sleep(0.05)
        both = asyncio.gather(first, ask(runner, loaded, column(1, 2, 3, 4)), return_exceptions=True)
        await asyncio.sleep(0.05)
        engine.go.set()
        return list(await both)

    policy = {"max_batch_size": 4, "max_execution_size": 1, "split_large": True, "max_enqueued_batches": 3}
    _, refused = batching(work, engine, **policy)
    assert code_of(refused) is grpc.StatusCode.UNAVAILABLE
    assert sizes(engine) == [1]


def test_tensors_that_would_be_filled_up_to_giants_run_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.modelserver.batching.MOST_PADDED_BYTES", 4 * 1000)
    engine = Doubler()
    narrow, wide = np.ones((50, 1), np.float32), np.ones((1, 900), np.float32)
    answers = batching(lambda *to: ask_all(*to, narrow, wide), engine, timeout_s=0.05, pad_variable_length=True)
    assert [answer.shape for answer in answers] == [(50, 1), (1, 900)]
    assert sizes(engine) == [50, 1]


def test_a_batch_is_filled_up_to_an_allowed_size_and_the_filling_is_not_answered() -> None:
    engine = Doubler()
    answers = batching(
        lambda *to: ask_all(*to, column(1), column(2), column(3)),
        engine,
        timeout_s=0.05,
        max_batch_size=8,
        allowed_sizes=(2, 4, 8),
    )
    assert sizes(engine) == [4]
    assert [answer.tolist() for answer in answers] == [[[2.0]], [[4.0]], [[6.0]]]


def test_a_request_without_rows_may_begin_a_batch_that_is_filled_up() -> None:
    engine = Doubler()
    xs = column(), column(1), column(2, 3)
    answers = batching(lambda *to: ask_all(*to, *xs), engine, timeout_s=0.05, max_batch_size=8, allowed_sizes=(4, 8))
    assert sizes(engine) == [4]
    for x, answer in zip(xs, answers, strict=True):
        np.testing.assert_array_equal(answer, x * 2)


def test_tensors_of_other_shapes_wait_apart_or_are_filled_up() -> None:
    short, long = np.ones((1, 2), np.float32), np.ones((1, 3), np.float32)
    apart, together = Doubler(), Doubler()
    answers = batching(lambda *to: ask_all(*to, short, long), apart, timeout_s=0.05)
    assert sizes(apart) == [1, 1]
    assert [answer.shape for answer in answers] == [(1, 2), (1, 3)]
    answers = batching(lambda *to: ask_all(*to, short, long), together, timeout_s=0.05, pad_variable_length=True)
    assert sizes(together) == [2]
    assert together.ran[0]["x"].shape == (2, 3)


@pytest.mark.parametrize("inputs", [{"x": np.float32(1)}, {"x": column(1), "z": column(1, 2)}])
def test_tensors_without_rows_in_common_are_invalid(inputs: dict[str, Any]) -> None:
    inputs = {name: np.asarray(value) for name, value in inputs.items()}
    with pytest.raises(ServingError) as caught:
        batching(lambda runner, loaded: runner.run(loaded, "", inputs, ["y"]), Doubler())
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_outputs_that_have_not_the_batchs_rows_are_a_failed_precondition() -> None:
    answers = batching(lambda *to: ask_all(*to, column(1), column(2)), Doubler(rows=1), timeout_s=0.05)
    assert [code_of(answer) for answer in answers] == [grpc.StatusCode.FAILED_PRECONDITION] * 2


def test_a_request_that_the_model_cannot_take_fails_alone() -> None:
    engine = Doubler(fails_on=2.0)
    xs = [column(number) for number in range(64)]
    answers = batching(lambda *to: ask_all(*to, *xs), engine, timeout_s=0.05)
    assert code_of(answers.pop(2)) is grpc.StatusCode.INVALID_ARGUMENT
    assert [answer.tolist() for answer in answers] == [[[2.0 * number]] for number in range(64) if number != 2]
    assert len(engine.ran) <= 2 * 6 + 1


def test_a_full_queue_is_unavailable_and_what_waits_is_answered() -> None:
    engine = Doubler()
    engine.go.clear()

    async def work(runner: BatchingRunner, loaded: Loaded) -> list[Any]:
        asked = [asyncio.ensure_future(ask(runner, loaded, column(number))) for number in range(6)]
        await asyncio.sleep(0.2)
        engine.go.set()
        return await asyncio.gather(*asked, return_exceptions=True)

    answers = batching(work, engine, max_batch_size=1, max_enqueued_batches=2)
    refused = [answer for answer in answers if isinstance(answer, ServingError)]
    assert {code_of(answer) for answer in refused} == {grpc.StatusCode.UNAVAILABLE}
    assert 2 <= len(answers) - len(refused) <= 3
    assert len(engine.ran) == len(answers) - len(refused)


def test_a_request_given_up_while_it_waits_is_not_run() -> None:
    engine = Doubler()
    engine.go.clear()

    async def work(runner: BatchingRunner, loaded: Loaded) -> None:
        first = asyncio.ensure_future(ask(runner, loaded, column(1)))
        await asyncio.sleep(0.1)
        given_up = asyncio.ensure_future(ask(runner, loaded, column(2)))
        await asyncio.sleep(0.1)
        given_up.cancel()
        await asyncio.sleep(0)
        engine.go.set()
        await first

    batching(work, engine)
    assert [inputs["x"].tolist() for inputs in engine.ran] == [[[1.0]]]


def test_what_was_answered_is_let_go_of_however_long_it_might_have_waited() -> None:
    engine = Doubler()

    async def work(runner: BatchingRunner, loaded: Loaded) -> Any:
        x = np.ones((1, 1), np.float32)  # no view of another, which would be kept instead
        still_there = weakref.ref(x)
        await ask(runner, loaded, x)
        del x
        engine.ran.clear()
        await asyncio.sleep(0)
        gc.collect()
        return still_there()

    assert batching(work, engine, max_batch_size=1, timeout_s=3600.0) is None


FILE = """\
max_batch_size {{ value: 8 }}
batch_timeout_micros {{ value: 2000 }}
max_enqueued_batches {{ value: 5 }}
num_batch_threads {{ value: 3 }}
{more}
"""


def test_tensorflow_servings_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "batching.config"
    file.write_text(FILE.format(more="allowed_batch_sizes: 4 allowed_batch_sizes: 8 pad_variable_length_inputs: true"))
    assert read_batching(file) == BatchingPolicy(8, 0.002, 5, 3, (4, 8), pad_variable_length=True)


@pytest.mark.parametrize("sizes", [(2, 4), (2, 4, 8)], ids=["up to what runs", "as in TensorFlow Serving"])
def test_sizes_of_batches_that_are_split_may_end_with_either_bound(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    file = tmp_path / "batching.config"
    more = "enable_large_batch_splitting { value: true } max_execution_batch_size { value: 4 }"
    file.write_text(FILE.format(more="\n".join([more, *(f"allowed_batch_sizes: {size}" for size in sizes)])))
    policy = read_batching(file)
    assert [policy.padded(rows) for rows in range(1, 5)] == [2, 2, 4, 4]


def test_a_queue_of_no_batches_has_one(tmp_path: Path) -> None:
    file = tmp_path / "batching.config"
    file.write_text("max_enqueued_batches { value: 0 }")
    assert read_batching(file).max_enqueued_batches == 1


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            "enable_large_batch_splitting { value: true } max_execution_batch_size { value: 4 } "
            "allowed_batch_sizes: 2 allowed_batch_sizes: 8",
            "last entry of allowed_batch_sizes must be 4",
        ),
        ("allowed_batch_sizes: 8 allowed_batch_sizes: 4", "in increasing order"),
        ("allowed_batch_sizes: 4", "last entry of allowed_batch_sizes must be 8"),
        ("max_execution_batch_size { value: 9 }", "max_execution_batch_size must be at most max_batch_size, 8"),
        ("max_execution_batch_size { value: 0 }", "max_execution_batch_size must be at least 1"),
        ("max_batchsize { value: 1 }", "BatchingParameters in protobuf's text format"),
    ],
)
def test_a_wrong_file_is_explained(tmp_path: Path, more: str, words: str) -> None:
    file = tmp_path / "batching.config"
    file.write_text(FILE.format(more=more))
    with pytest.raises(InvalidConfig, match=words):
        read_batching(file)


def test_a_server_with_batching_answers_every_client_its_own(base_path: Path, tmp_path: Path) -> None:
    file = tmp_path / "batching.config"
    file.write_text(
        FILE.format(more="max_enqueued_batches { value: 100 }").replace("max_enqueued_batches { value: 5 }", "")
    )
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (1 + number % 3, 128, 301, 3), np.uint8) for number in range(24)]
    with serve(base_path, enable_batching=True, batching_parameters_file=file) as server:
        server.wait_until_available(1)
        alone = [server.predict(spectrogram=image) for image in images]
        futures = [server.predictions.Predict.future(predict_request(spectrogram=image)) for image in images]
        for future, expected in zip(futures, alone, strict=True):
            got, wanted = (tf.make_ndarray(each.outputs["scores"]) for each in (future.result(30), expected))
            np.testing.assert_allclose(got, wanted, atol=1e-5)
        values = metrics(server.metrics_url)
    named = ":tensorflow:serving:batching_session"
    assert values[f"{named}:queuing_latency_count",] == 48
    assert 24 < values[f"{named}:wrapped_run_count",] < 48
    assert values[f"{named}:queuing_latency_sum",] > 24 * 1900  # microseconds: those alone wait 2 ms each
