"""`python -m serving`: the model server."""

from earshot.command import run_component, settings_command
from serving.run import run
from serving.settings import ServerSettings

if __name__ == "__main__":
    run_component(settings_command(ServerSettings)(run))
