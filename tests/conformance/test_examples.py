"""Classify, Regress and MultiInference over gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    regression_pb2,
)

from tests.conformance.conftest import refused
from tests.conformance.requests import INVALID, example, examples, spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conformance.conftest import Server


def classify(server: Server, signature: str, sent: input_pb2.Input, model: str = "half") -> Any:
    request = classification_pb2.ClassificationRequest(model_spec=spec(model, signature=signature), input=sent)
    return server.predictions.Classify(request, timeout=30)


def regress(server: Server, signature: str, sent: input_pb2.Input, model: str = "half") -> Any:
    request = regression_pb2.RegressionRequest(model_spec=spec(model, signature=signature), input=sent)
    return server.predictions.Regress(request, timeout=30)


def test_classify_gives_labels_and_scores_of_each_example(server: Server) -> None:
    answer = classify(server, "classify", examples(2, 4))
    assert [[(each.label, each.score) for each in one.classes] for one in answer.result.classifications] == [
        [("4.0", 4.0)],
        [("5.0", 5.0)],
    ]
    assert answer.model_spec == spec(version=3, signature="classify")


def test_classify_without_labels_gives_scores(server: Server) -> None:
    (found,) = classify(server, "scores", examples(2)).result.classifications
    assert [(each.label, each.score) for each in found.classes] == [("", 4.0)]


def test_regress_gives_the_value_of_each_example(server: Server) -> None:
    answer = regress(server, "regress", examples(2, 4))
    assert [each.value for each in answer.result.regressions] == [4.0, 5.0]
    assert answer.model_spec == spec(version=3, signature="regress")


def test_signatures_of_tf2_answer_although_they_say_that_they_are_for_predict(server: Server) -> None:
    assert [each.value for each in regress(server, "", examples(2, 4), "doubled").result.regressions] == [4.0, 8.0]
    (found,) = classify(server, "scores", examples(2), "doubled").result.classifications
    assert [each.score for each in found.classes] == [2.0, 4.0]


def test_requests_that_say_nothing_of_a_model_are_refused(server: Server) -> None:
    sent = examples(1)
    calls: list[Callable[[], Any]] = [
        lambda: server.predictions.Classify(classification_pb2.ClassificationRequest(input=sent), timeout=30),
        lambda: server.predictions.Regress(regression_pb2.RegressionRequest(input=sent), timeout=30),
    ]
    assert [refused(call) for call in calls] == [(INVALID, "Missing ModelSpec")] * 2


def test_a_signature_that_takes_no_examples_is_told_their_type(server: Server) -> None:
    code, details = refused(lambda: regress(server, "other_input", examples(1)))
    assert code is INVALID
    assert "string" in details


def test_a_context_is_part_of_each_example_and_the_examples_own_features_win(server: Server) -> None:
    both = input_pb2.Input(
        example_list_with_context=input_pb2.ExampleListWithContext(
            context=example(x=2), examples=[example(), example(x=4)]
        )
    )
    assert [each.value for each in regress(server, "regress", both).result.regressions] == [4.0, 5.0]


@pytest.mark.parametrize("call", [classify, regress])
@pytest.mark.parametrize(
    ("signature", "sent", "words"),
    [
        ("no", examples(1), "No signature was found with the name: no"),
        ("serving_default", examples(1), "inputs found in SignatureDef"),
        ("", examples(1), "inputs found in SignatureDef"),
    ],
)
def test_classify_and_regress_refuse_other_signatures(
    server: Server, call: Callable[..., Any], signature: str, sent: input_pb2.Input, words: str
) -> None:
    code, details = refused(lambda: call(server, signature, sent))
    assert code is INVALID
    assert words in details


@pytest.mark.parametrize("call", [(classify, "classify"), (regress, "regress")])
@pytest.mark.parametrize("sent", [input_pb2.Input(), examples()])
def test_classify_and_regress_refuse_no_examples(
    server: Server, call: tuple[Callable[..., Any], str], sent: input_pb2.Input
) -> None:
    method, signature = call
    code, details = refused(lambda: method(server, signature, sent))
    assert code is INVALID
    assert "Input is empty" in details


def test_examples_without_a_feature_are_invalid(server: Server) -> None:
    sent = input_pb2.Input(example_list=input_pb2.ExampleList(examples=[example(other=1)]))
    code, _ = refused(lambda: regress(server, "regress", sent))
    assert code is INVALID


def multi(server: Server, sent: input_pb2.Input, *tasks: tuple[str, str, str]) -> Any:
    request = inference_pb2.MultiInferenceRequest(input=sent)
    for name, signature, method in tasks:
        model = spec(name, signature=signature)
        request.tasks.add(model_spec=model, method_name=f"tensorflow/serving/{method}")
    return server.predictions.MultiInference(request, timeout=30)


def test_multi_inference_answers_each_task(server: Server) -> None:
    answer = multi(server, examples(2), ("half", "regress", "regress"), ("half", "classify", "classify"))
    first, second = answer.results
    assert [each.value for each in first.regression_result.regressions] == [4.0]
    assert [each.score for each in second.classification_result.classifications[0].classes] == [4.0]
    assert [each.model_spec for each in answer.results] == [
        spec(version=3, signature="regress"),
        spec(version=3, signature="classify"),
    ]


def test_multi_inference_says_which_signature_is_the_default_one(server: Server) -> None:
    (result,) = multi(server, examples(2), ("doubled", "", "regress")).results
    assert result.model_spec == spec("doubled", version=1, signature="serving_default")
    assert [each.value for each in result.regression_result.regressions] == [4.0]


@pytest.mark.parametrize(
    ("tasks", "code", "words"),
    [
        ([("half", "regress", "regress"), ("mixed", "regress", "regress")], INVALID, "must access the same model name"),
        (
            [("half", "regress", "regress"), ("half", "regress", "regress")],
            INVALID,
            "Duplicate evaluation of signature",
        ),
        ([("half", "no", "regress")], INVALID, "Requested signature not found in model graph: no"),
        ([("half", "regress", "predict")], grpc.StatusCode.UNIMPLEMENTED, "Unsupported signature method_name"),
        ([("half", "regress", "classify")], INVALID, "Expected classification signature outputs to contain"),
        (
            [("half", "regress", "regress"), ("half", "other_input", "regress")],
            INVALID,
            "Input tensor must be the same",
        ),
    ],
)
def test_multi_inference_refuses(
    server: Server, tasks: list[tuple[str, str, str]], code: grpc.StatusCode, words: str
) -> None:
    got, details = refused(lambda: multi(server, examples(1), *tasks))
    assert got is code
    assert words in details


def test_multi_inference_without_tasks_or_names_is_invalid(server: Server) -> None:
    assert refused(lambda: multi(server, examples(1)))[0] is INVALID
    code, details = refused(lambda: multi(server, examples(1), ("", "regress", "regress")))
    assert code is INVALID
    assert "empty model name" in details or "no name specified" in details
