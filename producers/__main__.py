"""`python -m producers`: the agent on this machine's microphone."""

from __future__ import annotations

from earshot.command import run_component, settings_command
from producers.command import run
from producers.settings import AgentSettings

if __name__ == "__main__":
    run_component(settings_command(AgentSettings)(run))
