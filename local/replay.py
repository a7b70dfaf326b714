"""`earshot replay`: simulated devices over recordings, against one's own Kafka."""

from __future__ import annotations

import time
from queue import SimpleQueue
from typing import TYPE_CHECKING

from earshot.command import fail
from earshot.logs import get_log
from local.devices import replaying_devices
from local.recordings import NoRecordings, find_recordings
from local.tally import Event, Tally

if TYPE_CHECKING:
    from local.settings import ReplaySettings

log = get_log(__name__)


def run(settings: ReplaySettings) -> None:
    """Play every recording once; what was cut is sent before this returns."""
    events: SimpleQueue[Event] = SimpleQueue()
    tally = Tally()
    try:
        recordings = find_recordings(settings.folder)
    except NoRecordings as error:
        raise fail(error) from None
    devices = replaying_devices(recordings, settings.devices, settings.speed, settings.bootstrap_servers, events)
    for device in devices:
        device.start()
    try:
        while any(device.is_alive() for device in devices):
            time.sleep(0.1)
    except KeyboardInterrupt:
        for device in devices:
            device.stop()
    for device in devices:
        device.join()
    tally.enter_all(events)
    log.info("replayed", recordings=len(tally.played), segments=len(tally.produced), unreadable=len(tally.unreadable))
    for device in devices:
        if device.error is not None:
            raise fail(device.error)
