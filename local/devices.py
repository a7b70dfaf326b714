"""Simulated devices: the agent's own code in a thread, over recordings or this machine's microphone."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from earshot.logs import get_log
from local.recordings import shared_out
from producers.agent import Agent
from producers.publisher import Publisher
from producers.recordings import RecordingUnreadable
from producers.settings import AgentSettings
from producers.sources import MicrophoneSource, RecordingSource

if TYPE_CHECKING:
    from queue import SimpleQueue

    from earshot.segments import Segment
    from local.recordings import Recording
    from local.tally import Event

log = get_log(__name__)


class SimulatedDevice(threading.Thread):
    """One agent in a thread of its own; what it does comes out on a queue."""

    def __init__(self, settings: AgentSettings, events: SimpleQueue[Event]) -> None:
        super().__init__(name=settings.device_id, daemon=True)
        self._settings = settings
        self._events = events
        self._recording: Recording | None = None
        self._agent: Agent | None = None
        self._stopping = threading.Event()
        self.error: Exception | None = None
        """What ended the device before its time."""

    def run(self) -> None:
        """Play what there is to play, send what was cut, and end."""
        try:
            publisher = Publisher(self._settings, on_ack=self._acknowledged)
            try:
                self._agent = Agent(self._settings, publisher, on_segment=self._cut)
                if self._stopping.is_set():  # before there was an agent to stop
                    self._agent.stop()
                self._play(self._agent)
            finally:
                publisher.close()
        except Exception as error:
            self.error = error

    def stop(self) -> None:
        """End soon, with what was cut sent."""
        self._stopping.set()
        if self._agent is not None:
            self._agent.stop()

    def _play(self, agent: Agent) -> None:
        raise NotImplementedError

    def _cut(self, segment: Segment) -> None:
        segment_id, recording = segment.segment_id, self._recording  # the sound itself is not to be kept
        self._events.put(lambda tally: tally.add_segment(segment_id, recording))

    def _acknowledged(self, segment: Segment, appended_ms: int) -> None:
        segment_id = segment.segment_id
        self._events.put(lambda tally: tally.add_acknowledged(segment_id, appended_ms))


class MicrophoneDevice(SimulatedDevice):
    """This machine's microphone, until stopped."""

    def _play(self, agent: Agent) -> None:
        agent.run(MicrophoneSource(self._settings))


class ReplayingDevice(SimulatedDevice):
    """Recordings one after another, each heard as a stream of its own, at `speed` times real time."""

    def __init__(
        self,
        settings: AgentSettings,
        events: SimpleQueue[Event],
        recordings: list[Recording],
        speed: float,
    ) -> None:
        super().__init__(settings, events)
        self._recordings = recordings
        self._speed = speed

    def _play(self, agent: Agent) -> None:
        for recording in self._recordings:
            if self._stopping.is_set():
                return
            self._recording = recording
            try:
                agent.run(RecordingSource(recording.path, speed=self._speed))
            except RecordingUnreadable as error:
                log.warning("recording skipped", reason=str(error))
                self._unreadable(str(error))
            else:
                if not self._stopping.is_set():
                    self._played(recording)

    def _unreadable(self, reason: str) -> None:
        self._events.put(lambda tally: tally.add_unreadable(reason))

    def _played(self, recording: Recording) -> None:
        self._events.put(lambda tally: tally.add_played(recording))


def replaying_devices(
    settings: AgentSettings, recordings: list[Recording], count: int, speed: float, events: SimpleQueue[Event]
) -> list[ReplayingDevice]:
    """`count` devices with `settings`, named device-1 and so on, that share `recordings` out among them."""
    return [
        ReplayingDevice(settings.model_copy(update={"device_id": f"device-{number}"}), events, share, speed)
        for number, share in enumerate(shared_out(recordings, count), 1)
    ]


def agent_settings(bootstrap_servers: str) -> AgentSettings:
    """The agent's settings from its environment, for several agents in a process, so without a port for metrics.

    Raises SettingsError.
    """
    return AgentSettings.read({"bootstrap_servers": bootstrap_servers, "device_id": "microphone", "metrics_port": 0})
