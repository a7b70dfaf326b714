"""The CronJob keeps to Kubernetes' own schema, and calls commands that there are, as the image has them."""

from __future__ import annotations

import copy
import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.main import get_command

from earshot.cli import app
from earshot.command import TRY_AGAIN, USAGE_ERROR
from serving.models import REFUSED
from tests.deploy.compose import ROOT, instructions

MANIFEST = ROOT / "deploy" / "kubernetes" / "retrain.yaml"
RELEASES = ("1.31", "1.34")
"""The oldest release with all that is used, and a new one."""


@pytest.fixture
def cron_job() -> Any:
    """Free of YAML's anchors, so that a test may change one place."""
    return json.loads(json.dumps(yaml.safe_load(MANIFEST.read_text())))


def pod(cron_job: Any) -> Any:
    return cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]


@pytest.mark.parametrize("release", RELEASES)
def test_it_keeps_to_the_schema_of_each_release(cron_job: Any, release: str) -> None:
    kubernetes_validate.validate(cron_job, release, strict=True)


@pytest.mark.parametrize("broken", [{"schedule": None}, {"concurrencyPolicy": ["Forbid"]}, {"retries": 3}])
def test_the_schema_refuses_what_is_wrong(cron_job: Any, broken: dict[str, Any]) -> None:
    wrong = copy.deepcopy(cron_job)
    wrong["spec"].update(broken)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, RELEASES[0], strict=True)


def test_each_container_calls_a_command_with_options_that_it_has(cron_job: Any) -> None:
    (train,), (promote,) = pod(cron_job)["initContainers"], pod(cron_job)["containers"]
    (entrypoint,) = instructions("ENTRYPOINT", "training")
    assert "training.retrain" in entrypoint
    retrain = get_command(app).commands["retrain"]  # type: ignore[attr-defined]
    trained = retrain.make_context("retrain", train["args"]).params
    assert trained["model_base_path"] == "/candidates"
    assert promote["command"][:3] == ["earshot", "models", "promote"]
    command = get_command(app).commands["models"].commands["promote"]  # type: ignore[attr-defined]
    context = command.make_context("promote", [*promote["command"][3:], *promote["args"]])
    assert context.params["candidate"] == Path("/candidates")
    assert context.params["folds"] == trained["hold_out"] != ""


def test_what_trying_again_cannot_mend_fails_at_once_and_a_failed_download_does_not(cron_job: Any) -> None:
    job = cron_job["spec"]["jobTemplate"]["spec"]
    *_, at_once = job["podFailurePolicy"]["rules"]
    assert (at_once["action"], at_once["onExitCodes"]["operator"]) == ("FailJob", "In")
    assert {*at_once["onExitCodes"]["values"]} == {REFUSED, USAGE_ERROR, 128 + signal.SIGKILL}
    assert TRY_AGAIN not in at_once["onExitCodes"]["values"]
    assert job["backoffLimit"] > 1


def test_containers_have_no_rights_and_their_volumes_are_there(cron_job: Any) -> None:
    spec = pod(cron_job)
    volumes = {volume["name"] for volume in spec["volumes"]}
    for container in (*spec["initContainers"], *spec["containers"]):
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"] == "4Gi"
    assert spec["securityContext"]["runAsUser"] == 10001
    assert instructions("USER", "training") == ["10001"]


def test_the_first_model_is_promoted_by_force_in_a_job_as_operations_md_makes_it(cron_job: Any) -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    (script,) = re.findall(r"awk '(.*)' \| kubectl create", page)
    job = yaml.safe_dump({"kind": "Job", "spec": cron_job["spec"]["jobTemplate"]["spec"]})  # lists as kubectl has them
    forced = subprocess.run(["awk", script], input=job, capture_output=True, text=True, check=True).stdout
    before, after = (yaml.safe_load(text)["spec"]["template"]["spec"] for text in (job, forced))
    before["containers"][0]["args"].append("--force")
    assert after == before
