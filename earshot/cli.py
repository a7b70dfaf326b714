"""The command `earshot`: one command over all parts. Each imports what it needs only when it is called."""

from __future__ import annotations

import sys

import typer

from earshot.admin import TopicsSettings
from earshot.command import APP, fail, needs, settings_command
from earshot.tail import TailSettings
from local.commands import app as local_app
from local.settings import DemoSettings, ReplaySettings
from processors.settings import ProcessorSettings
from producers.settings import AgentSettings
from serving.models import app as models_app
from serving.settings import ServerSettings
from training.settings import EvaluateSettings, RetrainSettings

app = typer.Typer(
    name="earshot",
    help="Hears what happens: sound from microphones, through Kafka and a model server, to labels.",
    no_args_is_help=True,
    **APP,
)
app.add_typer(local_app, name="local")
app.add_typer(models_app, name="models")


@app.command()
@settings_command(AgentSettings)
def agent(settings: AgentSettings) -> None:
    """Listen to a microphone, and send what is heard to Kafka.

    Whenever something sounds, segments of three seconds go out until it is over. Needs a microphone that PortAudio
    knows (`earshot devices` lists them) and a broker with the topics (`earshot topics` makes them). SIGTERM or Ctrl-C
    end it once what it has cut is sent; a second one ends it at once. While the broker is away segments wait, up to
    --queue-segments of them. Prometheus metrics: --metrics-port.
    """
    with needs("agent"):
        from producers.command import run

        run(settings)


@app.command()
def devices() -> None:
    """List the microphones of this machine.

    A line each: index, name, sample rate, channels. `earshot agent --device` takes an index or a part of the name.
    """
    with needs("agent"):
        from producers.command import show_devices

        show_devices()


@app.command()
@settings_command(ProcessorSettings)
def processor(settings: ProcessorSettings) -> None:
    """Turn segments from Kafka into labels, until SIGTERM or Ctrl-C.

    Run as many as the segments topic has partitions: they share the load, and take over from one that dies. Needs a
    broker with the topics and a model server; waits while the model loads. Prometheus metrics: /metrics on
    --web-port.
    """
    with needs("processor"):
        from processors.worker import run

        run(settings)


@app.command()
@settings_command(ServerSettings)
def serve(settings: ServerSettings) -> None:
    """Serve models over TensorFlow Serving's gRPC and REST APIs.

    For where there is no TensorFlow Serving. Serves the newest numeric version in --model-base-path and changes over
    when a newer one appears, or what --model-config-file says; without either, the starter model. Flags and files are
    TensorFlow Serving's. Prometheus metrics: /monitoring/prometheus/metrics on --rest-api-port.
    """
    with needs("serving"):
        from serving.run import run

        run(settings)


@app.command()
@settings_command(RetrainSettings)
def retrain(settings: RetrainSettings) -> None:
    """Retrain the model on labelled clips.

    The recipe is judged on whole unseen folds, then trained on all clips but those of --hold-out, and with
    --model-base-path the model appears there as the next numeric version. It is a new head on features that are
    computed once and kept, or with --method finetune the network too. A run that was killed goes on where it was.
    Options may be spelt with _ in place of -, as the tutorial's were.
    """
    with needs("training"):
        from training.retrain import run

        run(settings)


@app.command()
@settings_command(EvaluateSettings)
def evaluate(settings: EvaluateSettings) -> None:
    """Judge a model on labelled clips.

    Any model, served (--model-server) or in a folder (--model), is asked for every clip, as a worker would ask it.
    Says how often it is right, of which classes, and how far its scores can be believed; --report writes a page with
    pictures. A model must not have been trained on what it is judged on.
    """
    with needs("training"):
        from training.evaluate import run

        run(settings)


@app.command()
@settings_command(TopicsSettings)
def topics(settings: TopicsSettings) -> None:
    """Create the topics that a broker lacks.

    Those that exist are left as they are. Partitions bound how many workers share the load.
    """
    from earshot.admin import TopicsError, create_topics

    try:
        made = create_topics(
            settings.bootstrap_servers, partitions=settings.partitions, replication=settings.replication
        )
    except TopicsError as error:
        raise fail(error) from None
    typer.echo(f"created {', '.join(made.created)}" if made.created else "all topics exist already")
    for name, partitions in made.partitions.items():
        if partitions != settings.partitions:
            typer.echo(f"{name} has {partitions} partitions and keeps them, not the {settings.partitions} asked for")
    for name, copies in made.replication.items():
        if copies != settings.replication:
            typer.echo(f"{name} has {copies} copies and keeps them, not the {settings.replication} asked for")


@app.command()
@settings_command(TailSettings)
def labels(settings: TailSettings) -> None:
    """Print labels as they come, until Ctrl-C.

    A line each: time, device, label, score, model and its version; --json-lines prints the labels themselves.
    """
    from earshot.tail import run

    run(settings)


@app.command()
@settings_command(ReplaySettings)
def replay(settings: ReplaySettings) -> None:
    """Play recordings to a Kafka that is running.

    Once each, through the agent's own code: simulated devices send what a microphone's agent would.
    """
    with needs("agent"):
        from local.replay import run

        run(settings)


@app.command()
@settings_command(DemoSettings)
def demo(settings: DemoSettings) -> None:
    """Show the whole pipeline at work on this machine.

    Starts a real Kafka broker, a model server and a worker. Simulated devices play recordings in real time through
    the agent's own code, and labels are shown as they arrive. Ends by itself with a summary, or on Ctrl-C; all that
    it started has then stopped. Exit status 1: labels were lost.
    """
    with needs("demo"):
        from local.demo import run

        run(settings)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command; `arguments` are the process's where None."""
    app([_switch(word) for word in (sys.argv[1:] if arguments is None else arguments)], prog_name="earshot")


def _switch(word: str) -> str:
    """A switch of the model server that is set as TensorFlow Serving's are, `--name=true`, in Earshot's own way."""
    name, _, value = word.partition("=")
    switches = {
        ServerSettings.option(each) for each, field in ServerSettings.model_fields.items() if field.annotation is bool
    }
    if name.replace("_", "-") not in switches or value.lower() not in {"true", "false"}:
        return word
    return name if value.lower() == "true" else f"--no-{name[2:]}"


def component(command: str) -> None:
    """Run one command with the process's arguments, for `python -m producers` and its like."""
    main([command, *sys.argv[1:]])


if __name__ == "__main__":
    main()
