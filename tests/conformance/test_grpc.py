"""TensorFlow Serving's gRPC API: what its methods answer, and how they refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.example import example_pb2
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    input_pb2,
    model_management_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from tests.conformance.conftest import refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conformance.conftest import Server

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


def spec(
    name: str = "half", *, version: int | None = None, label: str = "", signature: str = ""
) -> model_pb2.ModelSpec:
    made = model_pb2.ModelSpec(name=name, signature_name=signature)
    if version is not None:
        made.version.value = version
    if label:
        made.version_label = label
    return made


def predict(server: Server, model: model_pb2.ModelSpec, *outputs: str, **inputs: Any) -> predict_pb2.PredictResponse:
    request = predict_pb2.PredictRequest(model_spec=model, output_filter=outputs)
    for name, value in inputs.items():
        proto = value if isinstance(value, tensor_pb2.TensorProto) else tf.make_tensor_proto(value)
        request.inputs[name].CopyFrom(proto)
    return server.predictions.Predict(request, timeout=30)


def floats(*values: float) -> np.ndarray[Any, Any]:
    return np.array(values, np.float32)


def example(**features: float) -> example_pb2.Example:
    made = example_pb2.Example()
    for name, value in features.items():
        made.features.feature[name].float_list.value.append(value)
    return made


def examples(*values: float) -> input_pb2.Input:
    return input_pb2.Input(example_list=input_pb2.ExampleList(examples=[example(x=value) for value in values]))


# Predict


def test_predict_answers_from_the_newest_version_in_typed_fields_and_says_so(server: Server) -> None:
    answer = predict(server, spec(), x=floats(2, 4))
    assert list(answer.outputs) == ["y"]
    assert list(answer.outputs["y"].float_val) == [4.0, 5.0]
    assert not answer.outputs["y"].tensor_content
    assert answer.outputs["y"].dtype == types_pb2.DT_FLOAT
    assert [dim.size for dim in answer.outputs["y"].tensor_shape.dim] == [2]
    assert answer.model_spec == spec(version=3, signature="serving_default")


def test_predict_reads_tensor_content_and_typed_fields_alike(server: Server) -> None:
    typed = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[2.0, 4.0])
    typed.tensor_shape.dim.add(size=2)
    packed = tf.make_tensor_proto(floats(2, 4))
    assert packed.tensor_content
    assert predict(server, spec(), x=typed).outputs == predict(server, spec(), x=packed).outputs


def test_one_typed_value_stands_for_a_whole_tensor(server: Server) -> None:
    typed = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[2.0])
    typed.tensor_shape.dim.add(size=3)
    assert list(predict(server, spec(), x=typed).outputs["y"].float_val) == [4.0, 4.0, 4.0]


@pytest.mark.parametrize(
    ("model", "version"), [({"version": 2}, 2), ({"version": 3}, 3), ({"label": "stable"}, 2), ({"label": "canary"}, 3)]
)
def test_a_version_is_asked_for_by_number_or_label(server: Server, model: dict[str, Any], version: int) -> None:
    answer = predict(server, spec(**model), x=floats(2))
    assert list(answer.outputs["y"].float_val) == [1.0 + version]
    assert answer.model_spec.version.value == version


def test_all_outputs_or_those_of_the_filter_are_answered(server: Server) -> None:
    model = spec(signature="two")
    assert set(predict(server, model, x=floats(2)).outputs) == {"y", "doubled"}
    assert set(predict(server, model, "doubled", x=floats(2)).outputs) == {"doubled"}
    assert list(predict(server, model, "doubled", x=floats(2)).outputs["doubled"].float_val) == [8.0]


def test_several_inputs_of_several_types(server: Server) -> None:
    answer = predict(
        server,
        spec("mixed"),
        floats=np.array([[1, 2], [3, 4]], np.float32),
        ints=np.array([1, 2], np.int64),
        text=np.array([b"one", b"two\x00"], object),
    )
    assert tf.make_ndarray(answer.outputs["scaled"]).tolist() == [[2.0, 4.0], [6.0, 8.0]]
    assert list(answer.outputs["next"].int64_val) == [2, 3]
    assert list(answer.outputs["shout"].string_val) == [b"ONE", b"TWO\x00"]
    assert list(answer.outputs["even"].bool_val) == [False, True]


def test_small_integers_and_scalars(server: Server) -> None:
    inverted = predict(server, spec("mixed", signature="inverted"), values=np.array([0, 200], np.uint8))
    assert list(inverted.outputs["inverted"].int_val) == [255, 55]
    root = predict(server, spec("mixed", signature="root"), value=np.float32(9)).outputs["root"]
    assert list(root.float_val) == [3.0]
    assert not root.tensor_shape.dim


def test_predict_calls_classify_and_regress_signatures_too(server: Server) -> None:
    serialized = np.array([example(x=2).SerializeToString()], object)
    answer = predict(server, spec(signature="classify"), inputs=serialized)
    assert list(answer.outputs["scores"].float_val) == [4.0]
    assert list(answer.outputs["classes"].string_val) == [b"4.0"]


@pytest.mark.parametrize(
    ("model", "inputs", "outputs", "code", "words"),
    [
        (spec(""), {"x": floats(1)}, (), INVALID, "no model name specified"),
        (spec("nightingale"), {"x": floats(1)}, (), NOT_FOUND, "Servable not found for request: Latest(nightingale)"),
        (spec(version=7), {"x": floats(1)}, (), NOT_FOUND, "Servable not found for request: Specific(half, 7)"),
        (spec(label="beta"), {"x": floats(1)}, (), INVALID, "Unrecognized servable version label: beta"),
        (spec(signature="no"), {"x": floats(1)}, (), FAILED_PRECONDITION, 'Serving signature key "no" not found'),
        (spec(), {}, (), INVALID, "Sent extra: {}. Missing but required: {x}"),
        (spec(), {"x": floats(1), "z": floats(1)}, (), INVALID, "Sent extra: {z}. Missing but required: {}"),
        (spec(), {"z": floats(1)}, (), INVALID, "input tensor alias not found in signature: z. Inputs expected to be"),
        (spec(), {"x": floats(1)}, ("w",), INVALID, "output tensor alias not found in signature: w"),
        (spec(), {"x": floats(1)}, ("y", "y"), INVALID, "duplicate output tensor alias: y"),
        (spec(), {"x": tensor_pb2.TensorProto(dtype=99)}, (), INVALID, ""),
        (spec(), {"x": np.array([1.0])}, (), INVALID, ""),
        (spec("mixed", signature="inverted"), {"values": np.zeros((1, 2), np.uint8)}, (), INVALID, ""),
    ],
)
def test_predict_refuses(
    server: Server,
    model: model_pb2.ModelSpec,
    inputs: dict[str, Any],
    outputs: tuple[str, ...],
    code: grpc.StatusCode,
    words: str,
) -> None:
    got, details = refused(lambda: predict(server, model, *outputs, **inputs))
    assert got is code
    assert words in details


def shaped(*sizes: int, **values: Any) -> tensor_pb2.TensorProto:
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, **values)
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize("tensor", [shaped(0, 1 << 62), shaped(*[1] * 300, float_val=[1.0]), shaped(1 << 40, 1 << 40)])
def test_shapes_that_no_tensor_has_are_invalid(server: Server, tensor: tensor_pb2.TensorProto) -> None:
    assert refused(lambda: predict(server, spec(), x=tensor))[0] is INVALID


def test_a_long_name_is_not_found_like_any_other(server: Server) -> None:
    code, details = refused(lambda: predict(server, spec("x" * 20_000), x=floats(1)))
    assert code is NOT_FOUND
    assert details.startswith("Servable not found for request: Latest(xxx")


def test_a_truncated_tensor_is_a_parsing_error(server: Server) -> None:
    broken = tf.make_tensor_proto(floats(1, 2))
    broken.tensor_content = broken.tensor_content[:5]
    code, details = refused(lambda: predict(server, spec(), x=broken))
    assert code is INVALID
    assert "tensor parsing error: x" in details


def test_predict_without_a_spec_is_invalid(server: Server) -> None:
    code, _ = refused(lambda: server.predictions.Predict(predict_pb2.PredictRequest(), timeout=30))
    assert code is INVALID


def test_not_a_number_goes_through(server: Server) -> None:
    assert np.isnan(predict(server, spec(), x=floats(np.nan)).outputs["y"].float_val[0])


# Classify, Regress, MultiInference


def classify(server: Server, signature: str, sent: input_pb2.Input) -> Any:
    request = classification_pb2.ClassificationRequest(model_spec=spec(signature=signature), input=sent)
    return server.predictions.Classify(request, timeout=30)


def regress(server: Server, signature: str, sent: input_pb2.Input) -> Any:
    request = regression_pb2.RegressionRequest(model_spec=spec(signature=signature), input=sent)
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
        ("serving_default", examples(1), "signature method_name to be tensorflow/serving/"),
        ("", examples(1), "signature method_name to be tensorflow/serving/"),
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
        ([("half", "regress", "classify")], INVALID, "Expected classification signature method_name"),
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
    assert "empty model name" in details or "no model name" in details


# GetModelMetadata


def metadata(server: Server, model: model_pb2.ModelSpec | None, *fields: str) -> Any:
    request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=model, metadata_field=fields)
    return server.predictions.GetModelMetadata(request, timeout=30)


def test_metadata_is_the_signatures_packed_in_any(server: Server) -> None:
    answer = metadata(server, spec(version=2), "signature_def")
    packed = answer.metadata["signature_def"]
    assert packed.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert packed.Unpack(signatures)
    assert {"serving_default", "two", "classify", "regress"} <= set(signatures.signature_def)
    assert signatures.signature_def["classify"].method_name == "tensorflow/serving/classify"
    assert signatures.signature_def["serving_default"].inputs["x"].dtype == types_pb2.DT_FLOAT
    assert answer.model_spec.name == "half"
    assert answer.model_spec.version.value == 2


@pytest.mark.parametrize(
    ("model", "fields", "code", "words"),
    [
        (None, ("signature_def",), INVALID, "Missing ModelSpec"),
        (spec(), (), INVALID, "must specify at least one metadata_field"),
        (spec(), ("weights",), INVALID, "Metadata field weights is not supported"),
        (spec("nightingale"), ("signature_def",), NOT_FOUND, "Servable not found"),
        (spec(version=7), ("signature_def",), NOT_FOUND, "Specific(half, 7)"),
    ],
)
def test_metadata_refuses(
    server: Server, model: model_pb2.ModelSpec | None, fields: tuple[str, ...], code: grpc.StatusCode, words: str
) -> None:
    got, details = refused(lambda: metadata(server, model, *fields))
    assert got is code
    assert words in details


# GetModelStatus


def status(server: Server, model: model_pb2.ModelSpec | None) -> Any:
    return server.model_service.GetModelStatus(get_model_status_pb2.GetModelStatusRequest(model_spec=model), timeout=30)


def test_status_of_all_versions_and_of_one(server: Server) -> None:
    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    assert [(each.version, each.state) for each in status(server, spec()).model_version_status] == [
        (3, available),
        (2, available),
    ]
    (one,) = status(server, spec(version=2)).model_version_status
    assert (one.version, one.state, one.status.error_code, one.status.error_message) == (2, available, 0, "")
    (one,) = status(server, spec(label="stable")).model_version_status
    assert one.version == 2


@pytest.mark.parametrize(
    ("model", "code", "words"),
    [
        (None, INVALID, "Missing ModelSpec"),
        (spec("nightingale"), NOT_FOUND, "Could not find any versions of model nightingale"),
        (spec(version=7), NOT_FOUND, "Could not find version 7 of model half"),
        (spec(label="beta"), INVALID, "Unrecognized servable version label: beta"),
    ],
)
def test_status_refuses(server: Server, model: model_pb2.ModelSpec | None, code: grpc.StatusCode, words: str) -> None:
    got, details = refused(lambda: status(server, model))
    assert got is code
    assert words in details


# HandleReloadConfigRequest


def reload(server: Server, *models: dict[str, Any]) -> Any:
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.SetInParent()
    for model in models:
        labels, versions = model.pop("labels", {}), model.pop("versions", ())
        config = request.config.model_config_list.config.add(model_platform="tensorflow", **model)
        config.version_labels.update(labels)
        if versions:
            config.model_version_policy.specific.versions.extend(versions)
    return server.model_service.HandleReloadConfigRequest(request, timeout=60)


def half(server: Server, **labels: int) -> dict[str, Any]:
    return {"name": "half", "base_path": f"{server.models}/half", "versions": [2, 3], "labels": labels}


def mixed(server: Server, name: str = "mixed") -> dict[str, Any]:
    return {"name": name, "base_path": f"{server.models}/mixed"}


@pytest.fixture
def as_it_was(server: Server) -> Any:
    yield
    reload(server, half(server, stable=2, canary=3), mixed(server))


@pytest.mark.usefixtures("as_it_was")
def test_reloading_adds_and_removes_models_and_moves_labels(server: Server) -> None:
    answer = reload(server, half(server, stable=3), mixed(server, "added"))
    assert answer.status.error_code == 0
    assert predict(server, spec(label="stable"), x=floats(2)).model_spec.version.value == 3
    assert refused(lambda: predict(server, spec(label="canary"), x=floats(2)))[0] is INVALID
    root = predict(server, spec("added", signature="root"), value=np.float32(4))
    assert list(root.outputs["root"].float_val) == [2.0]
    assert refused(lambda: predict(server, spec("mixed", signature="root"), value=np.float32(4)))[0] is NOT_FOUND


@pytest.mark.usefixtures("as_it_was")
def test_a_label_of_a_version_that_is_not_served_is_refused_and_labels_stay(server: Server) -> None:
    code, details = refused(lambda: reload(server, half(server, stable=9), mixed(server)))
    assert code is FAILED_PRECONDITION
    assert "which is not currently available for inference" in details
    assert predict(server, spec(label="stable"), x=floats(2)).model_spec.version.value == 2


@pytest.mark.usefixtures("as_it_was")
def test_a_refused_reload_leaves_all_models_as_they_were(server: Server) -> None:
    added = {**mixed(server, "added"), "labels": {"stable": 9}}
    assert refused(lambda: reload(server, added))[0] is FAILED_PRECONDITION
    assert predict(server, spec(label="stable"), x=floats(2)).model_spec.version.value == 2
    root = predict(server, spec("mixed", signature="root"), value=np.float32(4)).outputs["root"]
    assert list(root.float_val) == [2.0]
    assert refused(lambda: predict(server, spec("added", signature="root"), value=np.float32(4)))[0] is NOT_FOUND


@pytest.mark.parametrize("config", ["nothing", "custom"])
def test_only_a_list_of_models_can_be_reloaded(server: Server, config: str) -> None:
    request = model_management_pb2.ReloadConfigRequest()
    if config == "custom":
        request.config.custom_model_config.SetInParent()
    code, details = refused(lambda: server.model_service.HandleReloadConfigRequest(request, timeout=30))
    assert code is INVALID
    assert "Only ModelConfigList is currently supported" in details


def test_a_wrong_list_is_refused_and_changes_nothing(server: Server) -> None:
    twice = [half(server), half(server)]
    relative = {"name": "half", "base_path": "half"}
    for models in (twice, [relative]):
        assert refused(lambda: reload(server, *models))[0] is INVALID  # noqa: B023
    assert predict(server, spec(label="stable"), x=floats(2)).model_spec.version.value == 2
