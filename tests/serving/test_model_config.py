"""The models' file: what it says, how it is refused, and a server that follows it."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import text_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs
from tensorflow_serving.apis import model_management_pb2

from serving.modelserver.model_config import InvalidConfig, ModelConfig, read_models
from serving.modelserver.version_policy import VersionPolicy
from serving.settings import ServerSettings
from tests.conformance.models import write_half_plus
from tests.serving.conftest import Served, metrics, predict_request, serve
from tests.waiting import wait_for


def written(folder: Path, *models: str) -> Path:
    file = folder / "models.config"
    whole = folder / "models.config.new"  # what reads the file again and again never finds half of it
    whole.write_text("model_config_list {\n" + "\n".join(f"config {{ {model} }}" for model in models) + "\n}\n")
    return whole.rename(file)


def model(name: str, more: str = "", path: str = "/models") -> str:
    return f'name: "{name}" base_path: "{path}" model_platform: "tensorflow" {more}'


def policy(text: str) -> str:
    return f"model_version_policy {{ {text} }}"


def test_models_policies_and_labels_are_read(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        model("one"),
        model("two", policy("latest { num_versions: 3 }"), "file:///elsewhere"),
        model("three", policy("all {}")),
        model("four", policy("specific { versions: 4 versions: 7 }") + ' version_labels { key: "stable" value: 4 }'),
    )
    assert read_models(file) == [
        ModelConfig("one", Path("/models")),
        ModelConfig("two", Path("/elsewhere"), VersionPolicy(newest=3)),
        ModelConfig("three", Path("/models"), VersionPolicy(newest=None)),
        ModelConfig("four", Path("/models"), VersionPolicy(specific=(4, 7)), {"stable": 4}),
    ]


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ([model("one"), model("one")], "Illegal to list model one multiple times"),
        ([model("one", path="models")], "absolute path or URI; got base_path\\(\\)=models"),
        ([model("one", path="/mod\\000els")], "absolute path or URI"),
        (['name: "one" base_path: "/models"'], 'needs model_platform: "tensorflow"'),
        ([model("")], "has no name"),
        ([model("one", policy("specific {}"))], "names no version"),
        ([model("one", 'version_labels { key: "" value: 1 }')], "label without a name"),
        (["nonsense"], "ModelServerConfig in protobuf's text format"),
    ],
)
def test_a_wrong_file_is_explained(tmp_path: Path, models: list[str], words: str) -> None:
    with pytest.raises(InvalidConfig, match=words):
        read_models(written(tmp_path, *models))


def test_a_file_that_is_not_there_or_custom_is_explained(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="cannot read"):
        read_models(tmp_path / "none")
    (tmp_path / "empty").write_text("")
    with pytest.raises(InvalidConfig, match="has no model_config_list"):
        read_models(tmp_path / "empty")
    assert read_models(tmp_path / "empty", may_be_empty=True) == []
    (tmp_path / "custom").write_text("custom_model_config {}")
    with pytest.raises(InvalidConfig, match="list the models in model_config_list"):
        read_models(tmp_path / "custom")


def answer(server: Served, name: str, label: str = "") -> float:
    request = predict_request(name, x=np.array([2], np.float32))
    if label:
        request.model_spec.version_label = label
    return float(server.predictions.Predict(request, timeout=30).outputs["y"].float_val[0])


def code(server: Served, name: str, label: str = "") -> grpc.StatusCode:
    try:
        answer(server, name, label)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_a_changed_file_is_followed_and_a_wrong_one_changes_nothing(tmp_path: Path) -> None:
    for version in (1, 2):
        write_half_plus(tmp_path / "half" / str(version), float(version))
    versions = policy("all {}")
    path = str(tmp_path / "half")
    file = written(tmp_path, model("half", versions + ' version_labels { key: "stable" value: 1 }', path))
    settings = {"model_config_file": file, "model_config_file_poll_wait_seconds": 0.1}
    with serve(tmp_path, read_models(file), **settings) as server:
        wait_for(lambda: code(server, "half", "stable") is grpc.StatusCode.OK, 30, "the label")
        assert answer(server, "half", "stable") == 2.0
        with capture_logs() as lines:
            written(tmp_path, "nonsense")
            time.sleep(0.5)
        assert ["ModelServerConfig" in line["error"] for line in lines] == [True]  # said once, read five times
        assert answer(server, "half", "stable") == 2.0
        written(
            tmp_path,
            model("half", versions + ' version_labels { key: "stable" value: 2 }', path),
            model("more", "", path),
        )
        wait_for(lambda: code(server, "more") is grpc.StatusCode.OK, 30, "the model that was added")
        wait_for(lambda: answer(server, "half", "stable") == 3.0, 30, "the label to move")
        written(tmp_path, model("more", "", path))
        wait_for(lambda: code(server, "half") is grpc.StatusCode.NOT_FOUND, 30, "the model that was taken away")
        assert answer(server, "more") == 3.0


def test_a_server_that_begins_without_models_is_healthy_and_gets_them_over_grpc(tmp_path: Path) -> None:
    write_half_plus(tmp_path / "half" / "1", 1.0)
    with serve(tmp_path, ()) as server:
        health = health_pb2_grpc.HealthStub(server.channel)
        asked = health_pb2.HealthCheckRequest()
        wait_for(lambda: health.Check(asked).status == health_pb2.HealthCheckResponse.SERVING, 10, "health")
        request = model_management_pb2.ReloadConfigRequest()
        request.config.model_config_list.config.add(
            name="half", base_path=str(tmp_path / "half"), model_platform="tensorflow"
        )
        server.models.HandleReloadConfigRequest(request, timeout=30)
        assert answer(server, "half") == 2.0


@pytest.mark.parametrize(("allowed", "waiting"), [(False, "UNAVAILABLE"), (True, "NOT_FOUND")])
def test_a_label_waits_for_its_version(tmp_path: Path, allowed: bool, waiting: str) -> None:
    base_path = tmp_path / "half"
    write_half_plus(base_path / "1", 1.0)
    models = [ModelConfig("half", base_path, VersionPolicy(newest=None), {"canary": 2})]
    with serve(base_path, models, allow_version_labels_for_unavailable_models=allowed) as server:
        wait_for(lambda: server.states("half") == {1: "AVAILABLE"}, 30, "version 1")
        assert code(server, "half", "canary").name == waiting
        assert code(server, "half", "beta") is grpc.StatusCode.INVALID_ARGUMENT
        write_half_plus(base_path / "2", 2.0)
        wait_for(lambda: code(server, "half", "canary") is grpc.StatusCode.OK, 30, "the label")
        assert answer(server, "half", "canary") == 3.0


def test_a_file_that_cannot_be_followed_holds_nothing_up(tmp_path: Path) -> None:
    """A path that the system refuses, and a version that never becomes whole, wait for no longer than a newer file."""
    write_half_plus(tmp_path / "half" / "1", 1.0)
    (tmp_path / "never" / "1").mkdir(parents=True)
    first = model("half", "", str(tmp_path / "half"))
    file = written(tmp_path, first)
    settings = {"model_config_file": file, "model_config_file_poll_wait_seconds": 0.1}
    with serve(tmp_path, read_models(file), **settings) as server:
        wait_for(lambda: code(server, "half") is grpc.StatusCode.OK, 30, "the model")
        for wrong in (model("long", "", "/" + "x" * 5000), model("never", "", str(tmp_path / "never"))):
            written(tmp_path, wrong)
            time.sleep(0.5)
            assert code(server, "half") is grpc.StatusCode.OK
            added = model("more", "", str(tmp_path / "half"))
            written(tmp_path, first, added)
            wait_for(lambda: code(server, "more") is grpc.StatusCode.OK, 30, "the file that was mended")
            written(tmp_path, first)
            wait_for(lambda: code(server, "more") is grpc.StatusCode.NOT_FOUND, 30, "the model to go")


def test_the_base_path_of_an_option_may_have_a_scheme_as_in_the_file(tmp_path: Path) -> None:
    write_half_plus(tmp_path / "half" / "1", 1.0)
    file = written(tmp_path, model("half", "", f"file://{tmp_path / 'half'}"))
    option: dict[str, Any] = {"model_base_path": f"file://{tmp_path / 'half'}"}
    assert ServerSettings(**option).model_base_path == read_models(file)[0].base_path == tmp_path / "half"


WAITS = "a new configuration waits for versions to be loaded"


def reloaded(server: Served, *models: str) -> Any:
    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse("".join(f"config {{ {each} }}" for each in models), request.config.model_config_list)
    return server.models.HandleReloadConfigRequest.future(request, timeout=60)


def test_a_newer_configuration_ends_the_wait_for_the_one_before(tmp_path: Path) -> None:
    write_half_plus(tmp_path / "half" / "1", 1.0)
    (tmp_path / "never" / "1").mkdir(parents=True)
    first, never = model("half", "", str(tmp_path / "half")), model("never", "", str(tmp_path / "never"))
    with serve(tmp_path, [ModelConfig("half", tmp_path / "half")]) as server:
        wait_for(lambda: code(server, "half") is grpc.StatusCode.OK, 30, "the model")
        with capture_logs() as lines:
            waiting = reloaded(server, first, never)
            time.sleep(0.5)
            assert not waiting.done()
            reloaded(server, first).result()
            assert waiting.code() is grpc.StatusCode.ABORTED
        assert not [line for line in lines if line["log_level"] in {"warning", "error"}]
        assert code(server, "half") is grpc.StatusCode.OK


def test_a_reload_whose_client_is_gone_says_in_the_log_why_it_was_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "broken" / "1").mkdir(parents=True)
    with serve(tmp_path, []) as server:
        with capture_logs() as lines:
            waiting = reloaded(server, model("broken", "", str(tmp_path / "broken")))
            wait_for(lambda: any(line["event"] == WAITS for line in lines), 20, "the wait to be told")
            waiting.cancel()
            (tmp_path / "broken" / "1" / "saved_model.pb").write_bytes(b"junk")
            wait_for(lambda: any(line["event"] == "models stay as they were" for line in lines), 30, "the refusal")
        said = [line for line in lines if line["event"] in {"models stay as they were", WAITS}]
        assert [line.get("models") for line in said] == [["broken"], None]
        assert "1 servable(s) did not become available: {broken:" in said[-1]["error"]
    gc.collect()
    assert "asyncio" not in {record.name for record in caplog.records}, "it found an error that nobody asked for"


def test_health_and_metrics_are_of_the_models_that_are_offered(tmp_path: Path) -> None:
    write_half_plus(tmp_path / "half" / "1", 1.0)
    (tmp_path / "empty").mkdir()
    models = [ModelConfig("half", tmp_path / "half"), ModelConfig("empty", tmp_path / "empty")]
    with serve(tmp_path, models) as server:
        wait_for(lambda: code(server, "half") is grpc.StatusCode.OK, 30, "the model")
        assert not serving(server)
        assert ("earshot_serving_loaded_version", "empty") in metrics(server.metrics_url)
        reloaded(server, model("half", "", str(tmp_path / "half"))).result()
        wait_for(lambda: serving(server), 10, "health to follow")
        assert ("earshot_serving_loaded_version", "empty") not in metrics(server.metrics_url)
        (tmp_path / "copied" / "1").mkdir(parents=True)  # and nothing in it yet
        both = [model(name, "", str(tmp_path / name)) for name in ("half", "copied")]
        waiting = reloaded(server, *both)
        write_half_plus(tmp_path / "half" / "2", 2.0)
        wait_for(lambda: metrics(server.metrics_url)["earshot_serving_loaded_version", "half"] == 2, 20, "a change")
        assert serving(server)
        assert not waiting.done()
        write_half_plus(tmp_path / "copied" / "1", 1.0)
        waiting.result(30)


def serving(server: Served) -> bool:
    answer = health_pb2_grpc.HealthStub(server.channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
