"""`earshot local`: a Kafka broker in the background of this machine."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from earshot.command import APP, fail

if TYPE_CHECKING:
    from collections.abc import Iterator

STOPPED = 3
"""Exit status of `status` where no broker runs, as service managers have it."""

app = typer.Typer(
    help="Run a Kafka broker in the background, its data kept.",
    no_args_is_help=True,
    **APP,
)

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="The broker's data folder (default: earshot/kafka in the user's state folder)."),
]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port for clients, on 127.0.0.1.")]


@app.command()
def up(port: Port = 9092, data_dir: DataDir = None) -> None:
    """Start the broker with Earshot's topics.

    Prints its address when it is ready; a broker that runs already is left as it is. It stays until `down`.
    """
    from local import background

    folder = _folder(data_dir)
    with _failures():
        running, started = background.up(folder, port)
    state = "runs" if started else "ran already"
    if not running.bootstrap_servers.endswith(f":{port}"):
        typer.echo(f"It keeps its port, not the {port} asked for; `earshot local down` stops it", err=True)
    typer.echo(f"Kafka {state} as process {running.pid}, its data and its log in {folder}", err=True)
    typer.echo(running.bootstrap_servers)


@app.command()
def down(data_dir: DataDir = None) -> None:
    """Stop the broker; its data stays."""
    from local import background

    folder = _folder(data_dir)
    with _failures():
        stopped = background.down(folder)
    if stopped is None:
        typer.echo(f"No broker runs on {folder}")
    else:
        typer.echo(f"Stopped process {stopped.pid}; its data stays in {folder}")


@app.command()
def status(data_dir: DataDir = None) -> None:
    """Say whether the broker runs.

    And where, and how many records its topics took; exit status 3 where it does not run.
    """
    from local import background

    folder = _folder(data_dir)
    with _failures():
        running = background.find(folder)
        offsets = background.end_offsets(running.bootstrap_servers) if running else {}
    if running is None:
        typer.echo(f"state     stopped\ndata      {folder}")
        raise typer.Exit(STOPPED)
    typer.echo(f"state     running\npid       {running.pid}\naddress   {running.bootstrap_servers}\ndata      {folder}")
    for topic, records in offsets.items():
        typer.echo(f"topic     {topic}: end offset {records}")


def _folder(given: Path | None) -> Path:
    from local.background import default_data_dir

    return (given or default_data_dir()).absolute()


@contextmanager
def _failures() -> Iterator[None]:
    """Turn what a user can mend into one message and exit status 2."""
    from earshot.admin import TopicsError
    from local.errors import BrokerError

    try:
        yield
    except (BrokerError, TopicsError) as error:
        raise fail(error) from None
