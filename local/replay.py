"""`earshot replay`: simulated devices over recordings, against one's own Kafka."""

from __future__ import annotations

import time
from queue import SimpleQueue
from typing import TYPE_CHECKING

import typer

from earshot.command import fail
from earshot.logs import get_log
from earshot.settings import SettingsError
from local.devices import agent_settings, replaying_devices
from local.interrupts import Interrupts
from local.recordings import NoRecordings, find_recordings
from local.tally import Event, Tally

if TYPE_CHECKING:
    from local.settings import ReplaySettings

log = get_log(__name__)

POLL_S = 0.1


def run(settings: ReplaySettings) -> None:
    """Play every recording once; what was cut is sent before this returns, also on Ctrl-C, or else it exits with 1."""
    events: SimpleQueue[Event] = SimpleQueue()
    tally = Tally()
    try:
        agent = agent_settings(settings.bootstrap_servers)
        recordings = find_recordings(settings.folder)
    except (SettingsError, NoRecordings) as error:
        raise fail(error) from None
    devices = replaying_devices(agent, recordings, settings.devices, settings.speed, events)
    with Interrupts() as interrupted:
        interrupted.defer()
        for device in devices:
            device.start()
        while any(device.is_alive() for device in devices):
            if interrupted.came:
                for device in devices:
                    device.stop()
            tally.enter_all(events)
            time.sleep(POLL_S)
    tally.enter_all(events)
    log.info(
        "replayed",
        recordings=len(tally.played),
        segments=len(tally.produced),
        unsent=tally.unsent,
        unreadable=len(tally.unreadable),
    )
    for device in devices:
        if device.error is not None:
            raise fail(device.error)
    if tally.unsent:
        log.error("Kafka has not acknowledged every segment; replay again once it answers", unsent=tally.unsent)
        raise typer.Exit(1)
