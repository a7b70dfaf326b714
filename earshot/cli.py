"""The command `earshot`: one command over all parts. Each imports what it needs only when it is called."""

from earshot.command import fail, run_component, settings_command

__all__ = ["fail", "run_component", "settings_command"]
