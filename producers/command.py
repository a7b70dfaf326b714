"""The commands: `run` is the agent on this machine's microphone, `show_devices` lists what it could listen to."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from prometheus_client import start_http_server

from earshot.command import fail
from earshot.logs import configure_logs, get_log
from producers.agent import Agent
from producers.devices import MicrophoneError, list_devices
from producers.microphone import MicrophoneSource
from producers.publisher import Publisher, PublisherError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from producers.settings import AgentSettings

log = get_log(__name__)


def run(settings: AgentSettings) -> None:
    """Listen to a microphone and send three seconds of sound to Kafka whenever something is heard."""
    try:
        source = MicrophoneSource(settings)  # first, as it is here and fails at once
        with _metrics(settings.metrics_host, settings.metrics_port), Publisher(settings) as publisher:
            agent = Agent(settings, publisher)
            with _stopping_on_signals(agent):
                summary = agent.run(source)
            log.info(
                "stopped",
                frames=summary.frames,
                segments=summary.segments,
                sent=summary.sent,
                dropped=summary.dropped,
                unsent=publisher.queued,
            )
    except (MicrophoneError, PublisherError) as error:
        raise fail(error) from None


def show_devices() -> None:
    """List the devices that can record: index, name, sample rate, channels."""
    configure_logs("warning")
    devices = list_devices()
    if not devices:
        raise fail("this machine has no device that records; is one plugged in, and does the sound server run?")
    for device in devices:
        typer.echo(str(device))


@contextmanager
def _metrics(host: str, port: int) -> Iterator[None]:
    """Serve the metrics meanwhile, unless `port` is 0."""
    if not port:
        yield
        return
    try:
        server, thread = start_http_server(port, host)
    except OSError as error:
        raise fail(
            f"cannot serve metrics on port {port} of {host} ({error.strerror or error}); "
            "choose others with --metrics-port and --metrics-host"
        ) from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def _stopping_on_signals(agent: Agent) -> Iterator[None]:
    """The first SIGTERM or SIGINT stops `agent`, which then sends what is queued; a second one ends the process."""

    def stop(_signal: int, _frame: object) -> None:
        restore()
        agent.stop()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        restore()
