"""`python -m serving`: the model server, as `earshot serve`."""

from earshot.cli import component

if __name__ == "__main__":
    component("serve")
