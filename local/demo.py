"""The demo: devices on one side, labels on the other, the real pipeline between them."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import typer
from kafka import KafkaConsumer
from rich.console import Console

from earshot.admin import TopicsError
from earshot.command import INTERRUPTED, fail
from earshot.folders import NotWritable, require_writable
from earshot.labels import InvalidLabel, Label
from earshot.logs import get_log
from earshot.settings import SettingsError
from earshot.topics import DEAD_LETTERS, LABELS
from local.devices import MicrophoneDevice, SimulatedDevice, agent_settings, replaying_devices
from local.errors import BrokerError
from local.interrupts import Interrupts
from local.recordings import NoRecordings, find_recordings
from local.screen import Screen, print_summary
from local.stack import Stack, StackError
from local.tally import Event, Tally
from producers.devices import MicrophoneError, find_device, list_devices
from producers.publisher import PublisherError

if TYPE_CHECKING:
    from kafka import TopicPartition
    from kafka.consumer.fetcher import ConsumerRecord

    from local.settings import DemoSettings

log = get_log(__name__)

FAILURES = (
    SettingsError,
    NotWritable,
    NoRecordings,
    BrokerError,
    TopicsError,
    StackError,
    MicrophoneError,
    PublisherError,
)
"""What ends the demo with a message of its own."""

PATIENCE_S = 60.0
"""How long the demo waits without any new label, once all devices have finished, before it counts the rest as lost."""

INTERRUPTED_PATIENCE_S = 3.0
"""The same after Ctrl-C."""

CLASSES_ASKED = 100
"""Scores that the worker puts in a label: all of a model's, so that a recording's mean is over every class."""


def run(settings: DemoSettings) -> None:
    """`earshot demo`: run it, and turn what can go wrong into one message. Exit status 1 where labels were lost."""
    try:
        summary = run_demo(settings)
    except FAILURES as error:
        raise fail(error) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    if summary["lost"]:
        raise typer.Exit(1)


def run_demo(settings: DemoSettings, console: Console | None = None) -> dict[str, Any]:
    """Run the demo to its end or to Ctrl-C, print and return the summary; every process it started has then ended.

    Raises SettingsError, NotWritable, NoRecordings, BrokerError, TopicsError, StackError or, after the summary, what
    ended a device before its time.
    """
    console = console or Console()
    agent = agent_settings("not-yet-known:0")  # read before anything is started
    if settings.json_path:
        require_writable(settings.json_path)
    if settings.mic and settings.input:
        raise NoRecordings("--mic listens and --input plays recordings; choose one of them")
    if settings.mic:
        find_device(list_devices(), agent.device)  # raises where there is none, before anything is started
    recordings = [] if settings.mic else find_recordings(settings.folder)
    events: SimpleQueue[Event] = SimpleQueue()
    tally = Tally()
    with Interrupts() as interrupted, tempfile.TemporaryDirectory(prefix="earshot-demo-") as work_dir:
        started = time.monotonic()
        with (
            console.status("starting") as status,
            Stack(
                Path(work_dir),
                model=settings.model,
                top_k=CLASSES_ASKED,
                announce=status.update if console.is_terminal else console.print,
            ) as stack,
        ):
            status.stop()
            interrupted.defer()
            took_s = time.monotonic() - started
            console.print(f"Kafka, model server and worker are up after {took_s:.1f} s", style="dim")
            agent = agent.model_copy(update={"bootstrap_servers": stack.bootstrap_servers})
            devices: list[SimulatedDevice] = (
                [MicrophoneDevice(agent, events)]
                if settings.mic
                else [*replaying_devices(agent, recordings, settings.devices, settings.speed, events)]
            )
            elapsed_s = _watch(stack, devices, events, tally, console, interrupted)
    summary = {"speed": settings.speed, "devices": len(devices), **tally.summary(elapsed_s)}
    print_summary(console, summary)
    if settings.json_path:
        settings.json_path.write_text(json.dumps(summary, indent=2) + "\n")
    for device in devices:
        if device.error is not None:
            raise device.error
    return summary


def _watch(
    stack: Stack,
    devices: list[SimulatedDevice],
    events: SimpleQueue[Event],
    tally: Tally,
    console: Console,
    interrupted: Interrupts,
) -> float:
    """Run the devices and show labels until all have come. Returns the seconds from the start to the last label."""
    consumer = KafkaConsumer(
        LABELS, DEAD_LETTERS, bootstrap_servers=stack.bootstrap_servers, auto_offset_reset="earliest"
    )
    started = last_label = quiet_since = time.monotonic()
    try:
        with Screen(console) as screen:
            for device in devices:
                device.start()
            while True:
                if interrupted.came:
                    for device in devices:
                        device.stop()
                playing = sum(device.is_alive() for device in devices)
                arrived = consumer.poll(timeout_ms=100)
                tally.enter_all(events)  # after the poll: a segment is known before its label is
                now = time.monotonic()
                patience_s = INTERRUPTED_PATIENCE_S if interrupted.came else PATIENCE_S
                if _enter(arrived, tally, screen):
                    last_label = quiet_since = now
                elif playing:
                    quiet_since = now
                elif not tally.waiting or now - quiet_since > patience_s:
                    return last_label - started
                _show_status(screen, tally, playing)
                stack.check()
    finally:
        for device in devices:
            device.stop()
        consumer.close()


def _enter(batches: dict[TopicPartition, list[ConsumerRecord]], tally: Tally, screen: Screen) -> bool:
    """Enter labels and dead letters; True where there are any."""
    for partition, records in batches.items():
        for record in records:
            if partition.topic == DEAD_LETTERS:
                tally.add_dead_letter(dict(record.headers).get("ce_id", b"").decode())
                continue
            try:
                label = Label.from_record(record.value)
            except InvalidLabel as error:
                log.warning("label skipped", reason=str(error))
                continue
            latency_ms = tally.add_label(label, record.timestamp)
            screen.show_label(label, latency_ms, tally.truth(label.segment_id))
    return bool(batches)


def _show_status(screen: Screen, tally: Tally, playing: int) -> None:
    heard = f"{len(tally.produced)} segments, {len(tally.labels)} labels, {tally.waiting} on the way"
    screen.show_status(f"{heard}; {playing} devices playing. Ctrl-C ends." if playing else f"{heard}.")
