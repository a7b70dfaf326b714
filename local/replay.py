"""`earshot replay`: simulated devices over recordings, against one's own Kafka."""

from __future__ import annotations

import time
from queue import SimpleQueue
from typing import TYPE_CHECKING

from earshot.command import fail
from earshot.logs import get_log
from local.devices import replaying_devices
from local.interrupts import Interrupts
from local.recordings import NoRecordings, find_recordings
from local.tally import Event, Tally

if TYPE_CHECKING:
    from local.settings import ReplaySettings

log = get_log(__name__)

POLL_S = 0.1


def run(settings: ReplaySettings) -> None:
    """Play every recording once; what was cut is sent before this returns, also on Ctrl-C."""
    events: SimpleQueue[Event] = SimpleQueue()
    tally = Tally()
    try:
        recordings = find_recordings(settings.folder)
    except NoRecordings as error:
        raise fail(error) from None
    devices = replaying_devices(recordings, settings.devices, settings.speed, settings.bootstrap_servers, events)
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
    log.info("replayed", recordings=len(tally.played), segments=len(tally.produced), unreadable=len(tally.unreadable))
    for device in devices:
        if device.error is not None:
            raise fail(device.error)
