"""Logs as an operator sees them: stderr of a process of its own, as logging is configured once a process."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from typing import Any

PROGRAM = """
import logging, sys
from earshot.logs import configure_logs, get_log
configure_logs(sys.argv[1], json=sys.argv[2] == "json")
log = get_log("producers.agent")
log.debug("frame")
log.info("listening", port=9101, place="küche")
log.info("100% sure %s")
logging.getLogger("aiokafka.conn").info("connected")
logging.getLogger("aiokafka.conn").warning("lost %s", "broker-1")
logging.getLogger("aiokafka.conn").warning("lost %s", "broker-2")
log.info("again")
log.info("again")
logging.getLogger("kafka.conn").error("again and again")
def fail():
    secret_sound = "hush"
    raise ValueError("no frames")
try:
    fail()
except ValueError:
    log.exception("stopped", frames=3)
print("the command's own output")
"""


def logged(level: str, form: str) -> str:
    program = [sys.executable, "-c", PROGRAM, level, form]
    done = subprocess.run(program, capture_output=True, text=True, check=True, encoding="utf-8")
    assert done.stdout == "the command's own output\n"
    return done.stderr


def as_json(level: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in logged(level, "json").splitlines()]


def test_a_json_line_has_the_event_its_figures_level_logger_and_utc_time() -> None:
    line = next(line for line in as_json("info") if line["event"] == "listening")
    assert datetime.fromisoformat(line.pop("timestamp")).utcoffset() is not None
    assert line == {
        "event": "listening",
        "port": 9101,
        "place": "küche",
        "level": "info",
        "logger": "producers.agent",
    }


def test_an_exception_in_json_is_one_line_with_its_traceback() -> None:
    line = as_json("info")[-1]
    assert (line["event"], line["level"], line["frames"]) == ("stopped", "error", 3)
    assert line["exception"].endswith("ValueError: no frames")
    assert "in fail" in line["exception"]


def test_text_lines_are_readable_without_colours_where_stderr_is_no_terminal() -> None:
    text = logged("info", "text")
    assert "\x1b" not in text
    line = next(line for line in text.splitlines() if "listening" in line)
    assert "[info" in line
    assert "port=9101" in line
    assert "place=küche" in line


def test_an_exception_in_text_has_its_traceback_but_not_what_the_variables_held() -> None:
    text = logged("info", "text")
    assert "ValueError: no frames" in text
    assert "in fail" in text
    assert "╭" not in text
    assert "secret_sound = 'hush'" not in text


def test_dependencies_are_heard_from_warning_up_without_repeats_and_kafka_python_only_when_debugging() -> None:
    assert [line["event"] for line in as_json("info")] == [
        "listening",
        "100% sure %s",
        "lost broker-1",
        "again",
        "again",
        "stopped",
    ]
    assert [line["event"] for line in as_json("error")] == ["lost broker-1", "stopped"]
    assert [line["event"] for line in as_json("debug")] == [
        "frame",
        "listening",
        "100% sure %s",
        "connected",
        "lost broker-1",
        "lost broker-2",
        "again",
        "again",
        "again and again",
        "stopped",
    ]
