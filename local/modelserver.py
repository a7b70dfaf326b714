"""A model server in a process of its own on this machine."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from local.ports import HOST, free_ports
from local.processes import Child

if TYPE_CHECKING:
    from pathlib import Path

READY_TIMEOUT_S = 300.0
"""The first start expands the starter model, which takes most of a minute on a small machine."""

_SET_HERE = ("EARSHOT_SERVING_", "EARSHOT_PROCESSOR_")


def model_server(base_path: Path | None, log_path: Path) -> tuple[Child, str]:
    """A server of the model under `base_path` (None: the starter model), not started yet, and its address for gRPC."""
    port, rest_api_port = free_ports(2)
    words = ["serving", "--host", HOST, "--port", str(port), "--rest-api-port", str(rest_api_port)]
    if base_path:
        words += ["--model-base-path", str(base_path)]
    child = Child("model server", [sys.executable, "-m", *words], env=without_settings(), log_path=log_path)
    return child, f"{HOST}:{port}"


def without_settings() -> dict[str, str]:
    """The environment but for the settings of server and worker: one that is set for others must not part these two."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(_SET_HERE)}
