"""`python -m processors`: one worker, as `earshot processor`."""

from earshot.cli import component

if __name__ == "__main__":
    component("processor")
