from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import numpy as np
import pytest

from earshot.tfserving import messages
from processors.labeller import IMAGE_SHAPE
from processors.predictor import (
    BadAnswer,
    ModelAway,
    Prediction,
    Predictor,
    Refused,
    WrongModel,
    predict_request,
    read_predictions,
)
from tests.processors.model import CLASSES, DT_FLOAT, VERSION, Model, ModelServer, scores_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


def image(brightness: int) -> np.ndarray:
    return np.full(IMAGE_SHAPE, brightness, dtype=np.uint8)


def ask(server: ModelServer, question: Callable[[Predictor], Awaitable[T]], **options: float) -> T:
    async def asked() -> T:
        predictor = Predictor(server.address, "earshot", **options)
        try:
            return await question(predictor)
        finally:
            await predictor.close()

    return asyncio.run(asked())


@pytest.mark.parametrize("as_content", [False, True], ids=["float_val", "tensor_content"])
def test_scores_are_read_however_the_server_writes_them(model_server: ModelServer, as_content: bool) -> None:
    model_server.model.as_content = as_content
    images = [image(0), image(100), image(255)]
    predictions = ask(model_server, lambda predictor: predictor.predict(images))
    assert model_server.model.batches == [3]
    for prediction, sent in zip(predictions, images, strict=True):
        assert prediction.model_version == VERSION
        assert list(prediction.scores) == list(CLASSES)
        assert list(prediction.scores.values()) == pytest.approx(scores_of(sent).tolist())


def test_a_request_is_sent_as_tensor_content() -> None:
    request = predict_request("earshot", [image(7)])
    tensor = request.inputs["spectrogram"]
    assert len(tensor.tensor_content) == image(7).nbytes
    assert not tensor.int_val


@pytest.mark.parametrize(
    "code",
    [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.NOT_FOUND],
    ids=lambda code: code.name,
)
def test_a_server_that_is_away_is_asked_again(model_server: ModelServer, code: grpc.StatusCode) -> None:
    model_server.model.failures.extend([code, code])
    predictions = ask(model_server, lambda predictor: predictor.predict([image(1)]))
    assert len(predictions) == 1
    assert model_server.model.batches == [1, 1, 1]


def test_a_request_has_a_deadline_and_is_sent_again_after_it(model_server: ModelServer) -> None:
    model_server.model.delays.append(2.0)
    predictions = ask(model_server, lambda predictor: predictor.predict([image(1)]), timeout_s=0.5)
    assert len(predictions) == 1
    assert model_server.model.batches == [1, 1]


def test_after_the_retry_budget_requests_are_tried_once_each_until_the_server_is_back() -> None:
    server = ModelServer()
    server.start()
    server.stop()  # the port is known, and nothing listens there

    async def question(predictor: Predictor) -> None:
        with pytest.raises(ModelAway, match="has given no prediction"):
            await predictor.predict([image(1)])
        away = predictor.away
        assert away
        outcomes = await predictor.predict_each([image(1), image(2)])
        assert [type(outcome) for outcome in outcomes] == [ModelAway, ModelAway]
        server.start()
        while predictor.away:
            outcomes = await predictor.predict_each([image(1)])
            await asyncio.sleep(0.05)
        assert isinstance(outcomes[0], Prediction)

    try:
        ask(server, question, retry_budget_s=0.5)
    finally:
        server.stop()


def test_after_a_quiet_night_a_server_that_is_away_is_asked_again_for_as_long_as_ever(
    model_server: ModelServer,
) -> None:
    async def question(predictor: Predictor) -> None:
        model_server.model.failures.extend([grpc.StatusCode.UNAVAILABLE] * 1000)
        with pytest.raises(ModelAway):
            await predictor.predict([image(1)])
        model_server.model.failures.clear()
        model_server.model.failures.append(grpc.StatusCode.UNAVAILABLE)
        assert predictor._away_since
        predictor._away_since -= 36_000
        predictor._failed_at -= 36_000
        assert len(await predictor.predict([image(1)])) == 1

    ask(model_server, question, retry_budget_s=0.5)


def test_a_refused_image_does_not_take_its_neighbours_with_it(model_server: ModelServer) -> None:
    model_server.model.refuses = lambda sent: bool(sent.mean() == 13)
    images = [image(1), image(13), image(2)]
    first, second, third = ask(model_server, lambda predictor: predictor.predict_each(images))
    assert isinstance(first, Prediction)
    assert isinstance(second, Refused)
    assert "INVALID_ARGUMENT" in str(second)
    assert isinstance(third, Prediction)
    assert model_server.model.batches == [3, 1, 1, 1]


def test_an_answer_of_no_use_for_one_image_does_not_take_its_neighbours_with_it(model_server: ModelServer) -> None:
    model_server.model.spoils = lambda sent: bool(sent.mean() == 13)
    images = [image(1), image(13), image(2)]
    first, second, third = ask(model_server, lambda predictor: predictor.predict_each(images))
    assert [type(one) for one in (first, second, third)] == [Prediction, BadAnswer, Prediction]
    assert model_server.model.batches == [3, 1, 1, 1]


def test_a_worker_waits_for_the_model_and_knows_whether_it_fits(model_server: ModelServer) -> None:
    model_server.stop()

    async def question(predictor: Predictor) -> None:
        waiting = asyncio.ensure_future(predictor.wait_for_model(IMAGE_SHAPE))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        model_server.start()
        await waiting

    ask(model_server, question)


def test_a_model_of_another_spectrogram_is_named_with_both_shapes() -> None:
    model = Model()
    model.input_shape = [-1, 64, 301, 1]
    with ModelServer(model) as server, pytest.raises(WrongModel, match=r"\[-1, 64, 301, 1\].*\[-1, 128, 301, 3\]"):
        ask(server, lambda predictor: predictor.wait_for_model(IMAGE_SHAPE))


def answer(**changes: Any) -> Any:
    fields = {"scores": [0.25, 0.75], "names": ["a", "b"], "shape": [1, 2], "version": 1, **changes}
    response = messages.PredictResponse()
    response.model_spec.version.value = fields["version"]
    scores = response.outputs["scores"]
    scores.dtype = DT_FLOAT
    for size in fields["shape"]:
        scores.tensor_shape.dim.add(size=size)
    scores.float_val.extend(fields["scores"])
    response.outputs["classes"].string_val.extend([name.encode() for name in fields["names"]])
    if "thresholds" in fields:
        least = response.outputs["thresholds"]
        least.dtype = DT_FLOAT
        for size in (1, len(fields["thresholds"])):
            least.tensor_shape.dim.add(size=size)
        least.float_val.extend(fields["thresholds"])
    return response


def test_thresholds_come_with_the_classes_that_they_are_of() -> None:
    assert read_predictions(answer(thresholds=[0.5, 0.25]), 1)[0].thresholds == {"a": 0.5, "b": 0.25}


def test_class_names_may_come_once_or_with_each_row() -> None:
    assert read_predictions(answer(), 1) == [Prediction({"a": 0.25, "b": 0.75}, 1)]
    twice = answer(scores=[0.25, 0.75, 1.0, 0.0], shape=[2, 2])
    assert read_predictions(twice, 2)[1] == Prediction({"a": 1.0, "b": 0.0}, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": [0.5, float("nan")]}, "outside 0 to 1"),
        ({"scores": [3.0, -3.0]}, "outside 0 to 1"),
        ({"names": ["a"]}, "1 class names for 2 scores"),
        ({"shape": [2, 1]}, "for 1 segments"),
        ({"scores": [0.5]}, "do not fill their shape"),
        ({"thresholds": [0.5]}, r"thresholds \[1, 1\] for scores \[1, 2\]"),
        ({"version": 0}, "does not say its version"),
    ],
)
def test_an_answer_that_is_no_prediction_is_told_apart(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadAnswer, match=message):
        read_predictions(answer(**changes), 1)


def test_a_class_name_that_is_not_utf8_is_no_prediction_either() -> None:
    response = answer()
    response.outputs["classes"].string_val[1] = b"\xff"
    with pytest.raises(BadAnswer, match="not UTF-8"):
        read_predictions(response, 1)
