"""`python -m processors`: one worker."""

from earshot.command import run_component, settings_command
from processors.settings import ProcessorSettings
from processors.worker import run

if __name__ == "__main__":
    run_component(settings_command(ProcessorSettings)(run))
