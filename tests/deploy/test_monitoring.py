"""Prometheus takes the configuration and the alerts; every metric that they and the dashboard name is one exported."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from serving.modelserver.rest import METRICS_PATH
from serving.modelserver.server_files import read_metrics_path
from serving.settings import ServerSettings

ROOT = Path(__file__).parent.parent.parent
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
MONITORING = ROOT / "monitoring"
DASHBOARD = json.loads((MONITORING / "grafana" / "dashboards" / "earshot.json").read_text())
RULES = [rule for group in yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"] for rule in group["rules"]]
RULES_TEST = ROOT / "tests" / "deploy" / "rules_test.yml"
SCRAPED = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]

PROMETHEUS = {"up", "ALERTS"}

_NAME = re.compile(r"(?<![\w:\"=~.$])(?:earshot_\w+|:tensorflow:[\w:]+|\bup\b|\bALERTS\b)")


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    assert shutil.which("promtool"), "promtool is missing; scripts/setup.sh --tests installs it"
    return subprocess.run(["promtool", *arguments], text=True, capture_output=True, check=False, timeout=120)


@cache
def exported() -> frozenset[str]:
    """Samples that the agent, the worker (Faust's included) and the embedded server export."""
    text = subprocess.run(
        [sys.executable, "-m", "tests.deploy.exported"],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if not key.startswith("EARSHOT_")},
        text=True,
        capture_output=True,
        check=True,
    ).stdout
    ends = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"], "unknown": [""]}
    families = text_string_to_metric_families(text)
    return frozenset(f"{family.name}{end}" for family in families for end in ends.get(family.type, []))


def expressions() -> list[str]:
    """Every PromQL expression of the alerts and the dashboard."""
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    return [rule["expr"] for rule in RULES] + panels + [note["expr"] for note in DASHBOARD["annotations"]["list"]]


def names(expression: str) -> set[str]:
    return set(_NAME.findall(expression))


def test_prometheus_takes_the_configuration() -> None:
    answer = promtool("check", "config", MONITORING / "prometheus.yml")
    assert answer.returncode == 0, answer.stderr


def test_every_alert_fires_where_it_should_and_not_where_all_is_well() -> None:
    answer = promtool("test", "rules", RULES_TEST)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_no_alert_is_without_a_test() -> None:
    tests = yaml.safe_load(RULES_TEST.read_text())["tests"]
    fires = {one["alertname"] for test in tests for one in test.get("alert_rule_test", []) if one.get("exp_alerts")}
    assert fires == {rule["alert"] for rule in RULES}


@pytest.mark.parametrize("expression", expressions())
def test_every_metric_is_one_that_is_exported(expression: str) -> None:
    assert names(expression), "no metric found"
    assert names(expression) - exported() - PROMETHEUS == set()


def test_a_metric_that_nobody_exports_is_noticed() -> None:
    assert names('sum(rate(earshot_agent_frames[5m])) or up{job="x"}') - exported() == {
        "earshot_agent_frames",
        "up",
    }


def test_prometheus_parses_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    panels = [expression.replace("$__rate_interval", "1m") for expression in expressions()]
    rules = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(panels)]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    answer = promtool("check", "rules", tmp_path / "rules.yml")
    assert answer.returncode == 0, answer.stderr


def test_the_dashboard_asks_the_data_source_that_is_provisioned() -> None:
    (source,) = yaml.safe_load((MONITORING / "grafana/provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    for panel in DASHBOARD["panels"]:
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == source["uid"]
            assert panel["description"]


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_grafana_looks_for_the_dashboard_where_the_compose_file_puts_it() -> None:
    (provider,) = yaml.safe_load((MONITORING / "grafana/provisioning/dashboards/earshot.yml").read_text())["providers"]
    grafana = SERVICES["grafana"]
    assert f"./monitoring/grafana/dashboards:{provider['options']['path']}:ro" in grafana["volumes"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/earshot.json"


def test_everything_scraped_is_a_service_and_its_port_the_default_one() -> None:
    dns: dict[str, Any] = {job["job_name"]: job["dns_sd_configs"][0] for job in SCRAPED if "dns_sd_configs" in job}
    assert {name: (job["names"], job["port"]) for name, job in dns.items()} == {
        "agents": (["agent"], 9101),
        "workers": (["worker"], 6066),
    }
    assert {"agent", "worker", "model-server"} <= SERVICES.keys()


def test_tensorflow_serving_exports_its_metrics_where_prometheus_looks() -> None:
    (job,) = [job for job in SCRAPED if job["job_name"] == "model-server"]
    assert read_metrics_path(MONITORING / "tensorflow-serving.config") == job["metrics_path"]
    command = SERVICES["model-server"]["command"]
    assert job["static_configs"] == [{"targets": [f"model-server:{ServerSettings.read().rest_api_port}"]}]
    assert f"--rest_api_port={ServerSettings.read().rest_api_port}" in command


def test_the_embedded_server_exports_under_the_same_path() -> None:
    (job,) = [job for job in SCRAPED if job["job_name"] == "model-server"]
    assert job["metrics_path"] == METRICS_PATH
