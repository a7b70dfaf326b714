from __future__ import annotations

import os
import subprocess
import sys


def test_given_an_unknown_setting_then_the_worker_stops_and_names_the_nearest() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "processors"],
        env={**os.environ, "EARSHOT_PROCESSOR_MODEL_SERVR": "models:8500"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "EARSHOT_PROCESSOR_MODEL_SERVR" in ended.stderr
    assert "EARSHOT_PROCESSOR_MODEL_SERVER" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_given_a_model_server_without_a_port_then_the_worker_stops_and_names_the_setting() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "processors"],
        env={**os.environ, "EARSHOT_PROCESSOR_MODEL_SERVER": "models"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "model_server" in ended.stderr or "MODEL_SERVER" in ended.stderr
    assert "Traceback" not in ended.stderr
