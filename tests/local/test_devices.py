from __future__ import annotations

import re
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING

import pytest
import soundfile

from earshot.audio import SAMPLE_RATE_HZ
from earshot.topics import SEGMENTS
from local.background import end_offsets
from local.devices import agent_settings, replaying_devices
from local.recordings import Recording
from local.tally import Event, Tally
from tests.processes import Command
from tests.producers.sounds import noise
from tests.producers.test_publisher import free_broker, kill

if TYPE_CHECKING:
    from pathlib import Path

    from local.broker import Broker

pytestmark = pytest.mark.integration

PATIENCE_S = 30.0
RECORDING_S = 9.0


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    path = tmp_path / "noise.wav"
    soundfile.write(path, noise(RECORDING_S, -20.0), SAMPLE_RATE_HZ)
    return Recording(path, None)


def test_a_recording_that_was_stopped_half_way_is_not_counted_as_played(broker: Broker, recording: Recording) -> None:
    events: SimpleQueue[Event] = SimpleQueue()
    (device,) = replaying_devices(agent_settings(broker.bootstrap_servers), [recording], 1, 1.0, events)
    device.start()
    first = events.get(timeout=PATIENCE_S)  # it has cut a segment, and six seconds are left
    device.stop()
    device.join(PATIENCE_S)
    tally = Tally()
    first(tally)
    tally.enter_all(events)
    assert device.error is None
    assert len(tally.produced) >= 1
    assert all(one.appended_ms is not None for one in tally.produced.values()), "what was cut is sent"
    assert not tally.played


def test_a_device_stopped_before_it_began_plays_nothing(broker: Broker, recording: Recording) -> None:
    events: SimpleQueue[Event] = SimpleQueue()
    (device,) = replaying_devices(agent_settings(broker.bootstrap_servers), [recording], 1, 1.0, events)
    device.stop()
    device.start()
    device.join(PATIENCE_S)
    assert not device.is_alive()
    assert device.error is None
    assert events.empty()


def test_what_a_device_tells_does_not_hold_the_sound(broker: Broker, recording: Recording) -> None:
    events: SimpleQueue[Event] = SimpleQueue()
    (device,) = replaying_devices(agent_settings(broker.bootstrap_servers), [recording], 1, 0.0, events)
    device.start()
    device.join(PATIENCE_S)
    held = [type(cell.cell_contents).__name__ for event in _all(events) for cell in event.__closure__ or ()]
    assert {"str", "int", "Recording"} == set(held)


def test_replay_stopped_by_a_service_manager_sends_what_was_cut(
    broker: Broker, recording: Recording, tmp_path: Path
) -> None:
    arguments = ["--input", str(recording.path.parent), "--bootstrap-servers", broker.bootstrap_servers]
    before = end_offsets(broker.bootstrap_servers)[SEGMENTS]
    with Command("replay", *arguments, "--devices", "1", log=tmp_path / "log") as replay:
        give_up_at = time.monotonic() + PATIENCE_S
        while end_offsets(broker.bootstrap_servers)[SEGMENTS] == before:
            assert time.monotonic() < give_up_at, replay.output
            time.sleep(0.1)
        time.sleep(1.0)  # of the next segment there is enough to be sent
        replay.process.terminate()
        assert replay.wait(PATIENCE_S) == 0, replay.output
    sent = end_offsets(broker.bootstrap_servers)[SEGMENTS] - before
    assert sent >= 2, "the one that was cut short is sent too"
    assert f"segments={sent} " in replay.output
    assert "recordings=0" in replay.output


def test_replay_says_what_kafka_did_not_take_and_fails(recording: Recording, tmp_path: Path) -> None:
    own = free_broker(tmp_path)
    try:
        arguments = ["--input", str(recording.path.parent), "--bootstrap-servers", own.bootstrap_servers]
        with Command("replay", *arguments, "--devices", "1", log=tmp_path / "log", EARSHOT_AGENT_FLUSH_S="1") as replay:
            give_up_at = time.monotonic() + PATIENCE_S
            while not end_offsets(own.bootstrap_servers)[SEGMENTS]:
                assert time.monotonic() < give_up_at, replay.output
                time.sleep(0.1)
            kill(own)
            assert replay.wait(PATIENCE_S) == 1, replay.output
        # Of its three segments; whether the first was acknowledged before the broker went is a race.
        assert re.search("unsent=[23]", replay.output), replay.output
    finally:
        own.stop()


def test_replay_with_an_agents_setting_out_of_bounds_names_it(recording: Recording, tmp_path: Path) -> None:
    with Command("replay", log=tmp_path / "log", EARSHOT_AGENT_GATE="nonsense") as replay:
        assert replay.wait(PATIENCE_S) == 2
    assert "EARSHOT_AGENT_GATE (--gate) cannot be 'nonsense'" in replay.output
    assert "Traceback" not in replay.output


def _all(events: SimpleQueue[Event]) -> list[Event]:
    return [events.get_nowait() for _ in range(events.qsize())]
