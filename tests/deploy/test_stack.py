"""The compose file's pipeline without containers: its commands and variables, on this machine's addresses.

Real are Kafka, the jobs, the worker, the devices and Prometheus with its alerts; only TensorFlow Serving, which is
published as an image, is replaced by the embedded server, on the folder that the starter job filled. Then every panel
of the dashboard has to have something to show.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from kafka import KafkaProducer

from earshot.topics import SEGMENTS
from local.broker import Broker
from local.ports import free_ports
from local.processes import Child
from tests.deploy.compose import (
    ROOT,
    command_line,
    health_check,
    instructions,
    services,
    without_earshot_variables,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

PATIENCE_S = 180.0
"""Longest wait for what should happen; a bound on a failing test, not a claim about speed."""

MONITORING = ROOT / "monitoring"
DASHBOARD = json.loads((MONITORING / "grafana" / "dashboards" / "earshot.json").read_text())
PANELS = {panel["title"]: panel["targets"] for panel in DASHBOARD["panels"] if panel["type"] != "row"}

# `earshot replay` serves no metrics, but the agent's own code counts in its process as it does in an agent's.
REPLAY_WITH_METRICS = """\
import sys, time
from prometheus_client import start_http_server
from earshot.cli import app
start_http_server(int(sys.argv.pop(1)), addr="127.0.0.1")
status = app(sys.argv[1:], standalone_mode=False)
if status:
    sys.exit(status)
print("replayed", flush=True)
time.sleep(3600)
"""


def eventually(what: str, holds: Callable[[], bool], child: Child | None = None) -> None:
    """Return when `holds` does; fail with the last lines of `child` where it does not, or ends, before."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        last = "\n".join(child.tail()) if child else ""
        assert child is None or child.poll() is None, f"it ended before {what}:\n{last}"
        assert time.monotonic() < deadline, f"not {what} in {PATIENCE_S:g} s:\n{last}"
        time.sleep(0.2)


class Stack:
    """The services, each as a process of this machine, and Prometheus's answers."""

    def __init__(self, folder: Path, bootstrap_servers: str) -> None:
        self.folder = folder
        self.grpc, self.rest, self.web, self.agent, self.prometheus = free_ports(5)
        # Where the compose file's addresses and folders are here.
        self.here = {
            "kafka:19092": bootstrap_servers,
            "dns:///model-server:8500": f"dns:///127.0.0.1:{self.grpc}",
            "/models/earshot": str(folder / "models" / "earshot"),
            "/recordings": str(ROOT / "samples"),
        }

    def words(self, name: str) -> list[str]:
        """The command of a service, for this machine."""
        service = services()[name]
        first, *rest = command_line(service["build"]["target"], service.get("command"))
        program = {"python": [sys.executable], "earshot": [sys.executable, "-m", "earshot.cli"]}[first]
        return program + [self.here.get(word, word) for word in rest]

    def environment(self, name: str, **more: str) -> dict[str, str]:
        """The variables of a service: of its image and of the compose file, for this machine; then `more`."""
        service = services()[name]
        image = [pair for line in instructions("ENV", service["build"]["target"]) for pair in line.split()]
        given = dict(pair.split("=", 1) for pair in image) | service.get("environment", {})
        return without_earshot_variables() | {name: self.here.get(value, value) for name, value in given.items()} | more

    def run(self, name: str) -> str:
        """Run a job to its end, and return what it printed."""
        answer = subprocess.run(
            self.words(name),
            cwd=ROOT,
            env=self.environment(name),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    def healthy(self, name: str, container: str, here: str) -> bool:
        """Whether the health check of a service succeeds, asked at `here` instead of at `container`."""
        check = health_check(services()[name])
        assert check is not None
        assert any(container in word for word in check)
        program = [sys.executable, str(ROOT / "deploy" / "probe.py")] if check[0] == "probe" else check[:1]
        words = program + [word.replace(container, here) for word in check[1:]]
        return subprocess.run(words, capture_output=True, timeout=60, check=False).returncode == 0

    def configure_prometheus(self) -> None:
        """Write Prometheus's configuration with this machine's addresses, scraping often enough for a test."""
        config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        ports = {"agents": self.agent, "workers": self.web, "model-server": self.rest}
        for job in config["scrape_configs"]:
            job.pop("dns_sd_configs", None)  # names that only a container engine knows
            job.pop("file_sd_configs", None)
            job["static_configs"] = [{"targets": [f"127.0.0.1:{ports[job['job_name']]}"]}]
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        shutil.copy(MONITORING / "rules.yml", self.folder)

    def ask(self, path: str, **query: str) -> Any:
        """The data of Prometheus's answer."""
        url = f"http://127.0.0.1:{self.prometheus}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]

    def value(self, expression: str) -> list[float]:
        """What an expression is now, over the whole run: a number for each series."""
        series = self.ask("query", query=expression.replace("$__rate_interval", "1h"))["result"]
        return [float(one["value"][1]) for one in series]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All of it running, recordings played, and a broken segment sent among them."""
    folder = tmp_path_factory.mktemp("stack")
    with ExitStack() as undo:
        broker = undo.enter_context(Broker())
        running = Stack(folder, broker.bootstrap_servers)

        def start(name: str, words: list[str], env: dict[str, str]) -> Child:
            child = Child(name, words, env, folder / f"{name}.log")
            child.start()
            undo.callback(child.stop)
            return child

        running.configure_prometheus()
        here = {
            "--config.file=/etc/prometheus/prometheus.yml": f"--config.file={folder}/prometheus.yml",
            "--storage.tsdb.path=/prometheus": f"--storage.tsdb.path={folder}/tsdb",
        }
        flags = [here.pop(flag, flag) for flag in services()["prometheus"]["command"]]
        assert here == {}, "the compose file has other flags now"
        assert shutil.which("prometheus"), "prometheus is missing; scripts/setup.sh --tests installs it"
        listen = f"--web.listen-address=127.0.0.1:{running.prometheus}"
        prometheus = start("prometheus", ["prometheus", *flags, listen], dict(os.environ))
        address = "localhost:9090", f"127.0.0.1:{running.prometheus}"
        eventually("Prometheus is healthy", lambda: running.healthy("prometheus", *address), prometheus)

        assert "segments" in running.run("topics")
        running.run("starter")
        serve = [sys.executable, "-m", "serving", "--port", str(running.grpc), "--rest-api-port", str(running.rest)]
        model = ["--model-base-path", running.here["/models/earshot"]]
        start("model-server", [*serve, *model], without_earshot_variables())
        web = {"EARSHOT_PROCESSOR_WEB_PORT": str(running.web)}
        worker = start("worker", running.words("worker"), running.environment("worker", **web))
        address = "127.0.0.1:6066", f"127.0.0.1:{running.web}"
        eventually("the worker is healthy", lambda: running.healthy("worker", *address), worker)

        ready = "earshot_processor_model_ready == 1"
        eventually("Prometheus knows the worker before its first label", lambda: running.value(ready) != [], worker)

        producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
        producer.send(SEGMENTS, key=b"broken", value=b"this is no segment")
        producer.close()
        replay = [sys.executable, "-c", REPLAY_WITH_METRICS, str(running.agent), *running.words("replay")[3:]]
        player = start("replay", replay, running.environment("replay", EARSHOT_REPLAY_SPEED="0"))
        eventually("the recordings are played", lambda: "replayed" in player.tail()[-1:], player)
        sent = "sum(earshot_agent_segments_sent_total)"
        eventually("Prometheus has seen the segments", lambda: running.value(f"{sent} > 0") != [], player)
        labelled = f"sum(earshot_processor_labels_total) >= {sent} and sum(earshot_processor_dead_letters_total) == 1"
        eventually("Prometheus has seen all labels", lambda: running.value(labelled) != [], worker)
        yield running


def test_every_job_scrapes_something(stack: Stack) -> None:
    targets = stack.ask("targets")["activeTargets"]
    assert {(target["labels"]["job"], target["health"]) for target in targets} == {
        ("agents", "up"),
        ("workers", "up"),
        ("model-server", "up"),
    }


@pytest.mark.parametrize("title", PANELS)
def test_every_panel_has_something_to_show(stack: Stack, title: str) -> None:
    # Not at once: a rate needs a counter to be scraped twice.
    eventually("shown", lambda: any(stack.value(target["expr"]) for target in PANELS[title]))


def test_the_figures_at_a_glance_are_those_of_the_run(stack: Stack) -> None:
    def shown(title: str) -> list[float]:
        return stack.value(PANELS[title][0]["expr"])

    eventually("the agent", lambda: shown("Agents that answer") == [1])
    eventually("the worker", lambda: shown("Workers with a model") == [1])
    eventually("the broken segment", lambda: shown("Dead letters, last hour") == [1])
    eventually(
        "the latency", lambda: [0 < seconds <= PATIENCE_S for seconds in shown("Segment to label, p95")] == [True]
    )


def test_prometheus_evaluates_every_alert(stack: Stack) -> None:
    rules = [rule for group in stack.ask("rules")["groups"] for rule in group["rules"]]
    written = yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"]
    assert {rule["name"] for rule in rules} == {rule["alert"] for group in written for rule in group["rules"]}
    eventually("evaluated", lambda: all(r["health"] == "ok" for g in stack.ask("rules")["groups"] for r in g["rules"]))


def test_the_broken_segment_fires_its_alert_and_a_healthy_pipeline_no_other(stack: Stack) -> None:
    eventually("firing", lambda: stack.value('ALERTS{alertname="DeadLetters", alertstate="firing"}') != [])
    assert stack.value('ALERTS{alertname!="DeadLetters", alertstate="firing"}') == []
