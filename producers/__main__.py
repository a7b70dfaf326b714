"""`python -m producers`: the agent on this machine's microphone, as `earshot agent`."""

from earshot.cli import component

if __name__ == "__main__":
    component("agent")
