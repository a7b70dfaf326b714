"""What a server says of its models over gRPC, and how it is told to offer others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_pb2,
)

from tests.conformance.conftest import refused
from tests.conformance.requests import FAILED_PRECONDITION, INVALID, NOT_FOUND, floats, predict, spec, status
from tests.waiting import wait_for

if TYPE_CHECKING:
    import grpc

    from tests.conformance.conftest import Server


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
        (spec(), ("weights",), INVALID, "is not supported"),
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


def test_status_of_all_versions_and_of_one(server: Server) -> None:
    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    assert [(each.version, each.state) for each in status(server, spec()).model_version_status] == [
        (3, available),
        (2, available),
    ]
    (one,) = status(server, spec(version=2)).model_version_status
    assert (one.version, one.state, one.status.error_code, one.status.error_message) == (2, available, 0, "")


@pytest.mark.parametrize(
    ("model", "code", "words"),
    [
        (None, INVALID, "Missing ModelSpec"),
        (spec("nightingale"), NOT_FOUND, "Could not find any versions of model nightingale"),
        (spec(version=7), NOT_FOUND, "Could not find version 7 of model half"),
        (spec(""), NOT_FOUND, "Could not find any versions of model "),
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
    return newest(server, "mixed") | {"name": name}


def newest(server: Server, name: str) -> dict[str, Any]:
    """The newest version of what has its base path's name."""
    return {"name": name, "base_path": f"{server.models}/{name}"}


@pytest.fixture
def as_it_was(server: Server) -> Any:
    yield
    others = [newest(server, name) for name in ("mixed", "doubled", "changing")]
    reload(server, half(server, stable=2, canary=3), *others)


@pytest.mark.usefixtures("as_it_was")
def test_reloading_adds_and_removes_models_and_moves_labels(server: Server) -> None:
    answer = reload(server, half(server, stable=3), mixed(server, "added"))
    assert answer.status.error_code == 0
    assert predict(server, spec(label="stable"), x=floats(2)).model_spec.version.value == 3
    assert refused(lambda: predict(server, spec(label="canary"), x=floats(2)))[0] is INVALID
    root = predict(server, spec("added", signature="root"), value=np.float32(4))
    assert list(root.outputs["root"].float_val) == [2.0]
    assert refused(lambda: predict(server, spec("mixed", signature="root"), value=np.float32(4)))[0] is NOT_FOUND
    end = get_model_status_pb2.ModelVersionStatus.END
    wait_for(
        lambda: [each.state for each in status(server, spec("mixed")).model_version_status] == [end],
        30,
        "the model that is offered no more to be unloaded",
    )


@pytest.mark.usefixtures("as_it_was")
def test_a_label_of_a_version_that_is_not_served_is_refused_and_labels_stay(server: Server) -> None:
    code, details = refused(lambda: reload(server, half(server, stable=9), mixed(server)))
    assert code is FAILED_PRECONDITION
    assert "which is not currently available for inference" in details
    assert predict(server, spec(label="stable"), x=floats(2)).model_spec.version.value == 2


@pytest.mark.usefixtures("as_it_was")
def test_a_refused_reload_leaves_all_models_as_they_were(server: Server) -> None:
    added = mixed(server, "added")
    assert refused(lambda: reload(server, half(server, stable=9), added))[0] is FAILED_PRECONDITION
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


def test_the_server_describes_itself_to_clients_without_proto_files(server: Server) -> None:
    described = ProtoReflectionDescriptorDatabase(server.channel)
    services = {"tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"}
    assert services <= set(described.get_services())
    pool = DescriptorPool(described)
    methods = {method.name: method for name in services for method in pool.FindServiceByName(name).methods}
    assert {"Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata"} <= set(methods)
    assert {"GetModelStatus", "HandleReloadConfigRequest"} <= set(methods)
    method = methods["GetModelStatus"]
    request: Any = GetMessageClass(method.input_type)(model_spec={"name": "half"})
    call: Any = server.channel.unary_unary(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    assert {each.version for each in call(request, timeout=30).model_version_status} >= {2}
