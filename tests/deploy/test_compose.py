"""docker-compose.yml keeps to the compose schema, and to what the operations page promises of it."""

from __future__ import annotations

import copy
import json
import re
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from tests.deploy.compose import DOCKERFILE, ROOT, compose, health_check, instructions, own_services, services

SCHEMA = json.loads((files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json").read_text())
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)
NAMES = services().keys()


def keeps_running(service: dict[str, Any]) -> bool:
    return service.get("restart") == "unless-stopped"


def test_the_compose_file_keeps_to_the_compose_schema() -> None:
    VALIDATOR.validate(compose())


@pytest.mark.parametrize(("key", "value"), [("dependson", ["kafka"]), ("mem_limit", ["1g"]), ("ports", "9092:9092")])
def test_the_schema_refuses_a_compose_file_that_is_wrong(key: str, value: object) -> None:
    document = copy.deepcopy(compose())
    document["services"]["worker"][key] = value
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(document)


@pytest.mark.parametrize("name", sorted(NAMES - own_services().keys()))
def test_every_foreign_image_is_pinned(name: str) -> None:
    assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+", services()[name]["image"])


def test_kafka_is_the_version_that_the_project_is_tested_with() -> None:
    (version,) = re.findall(r"<kafka.version>(.*)</kafka.version>", (ROOT / "local" / "pom.xml").read_text())
    assert services()["kafka"]["image"] == f"apache/kafka:{version}"


def test_the_model_server_is_the_version_whose_api_is_locked() -> None:
    lock = (ROOT / "uv.lock").read_text()
    (version,) = re.findall(r'name = "tensorflow-serving-api"\nversion = "(.*)"', lock)
    assert services()["model-server"]["image"] == f"tensorflow/serving:{version}"


def test_the_projects_images_are_built_from_its_dockerfile() -> None:
    for service in own_services().values():
        build = service["build"]
        assert service["image"] == f"earshot-{build['target']}"
        assert (ROOT / build["context"] / build["dockerfile"]).samefile(DOCKERFILE)
        assert instructions("CMD", build["target"])


def test_base_images_are_pinned() -> None:
    assert all(re.fullmatch(r"PYTHON=\d+\.\d+\.\d+-slim-\w+", line) for line in instructions("ARG"))


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_service_is_bounded_in_memory_and_logs(name: str) -> None:
    service = services()[name]
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert service["logging"]["options"]["max-size"]


def test_what_must_run_is_restarted_and_a_job_on_request_is_not() -> None:
    policies = {name: service.get("restart") for name, service in services().items()}
    assert {name for name, policy in policies.items() if policy is None} == {"replay", "retrain"}
    assert {name for name, policy in policies.items() if policy == "on-failure:3"} == {"topics", "starter"}
    assert set(policies.values()) == {None, "on-failure:3", "unless-stopped"}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_what_keeps_running_has_a_health_check_and_a_job_has_none(name: str) -> None:
    assert (health_check(services()[name]) is not None) == keeps_running(services()[name])


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_waits_for_what_it_needs_to_be_healthy_or_done(name: str) -> None:
    for other, how in services()[name].get("depends_on", {}).items():
        needed = "service_healthy" if keeps_running(services()[other]) else "service_completed_successfully"
        assert how == {"condition": needed}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_port_is_on_loopback(name: str) -> None:
    assert [port for port in services()[name].get("ports", []) if not port.startswith("127.0.0.1:")] == []


def test_given_an_address_kafka_listens_there_and_tells_clients_so() -> None:
    kafka = compose(HOST_ADDRESS="192.168.1.10")["services"]["kafka"]
    assert kafka["ports"] == ["192.168.1.10:9092:9092"]
    assert "EXTERNAL://192.168.1.10:9092" in kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"]


def test_every_file_and_volume_mounted_is_there() -> None:
    mounts = [mount.split(":")[0] for service in services().values() for mount in service.get("volumes", [])]
    paths = {mount for mount in mounts if mount.startswith(".")}
    users = {"./data"}  # what retrain learns from is the user's to bring
    assert [path for path in paths - users if not (ROOT / path).exists()] == []
    assert set(mounts) - paths == set(compose()["volumes"])


def test_what_needs_a_microphone_recordings_or_data_is_asked_for_by_name() -> None:
    assert {name: service["profiles"] for name, service in services().items() if "profiles" in service} == {
        "agent": ["microphone"],
        "replay": ["replay"],
        "retrain": ["retrain"],
    }
