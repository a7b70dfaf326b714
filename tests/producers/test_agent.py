from __future__ import annotations

import itertools
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from earshot.audio import SEGMENT_SAMPLES, windows
from local.broker import Broker
from producers.agent import Agent, Summary
from producers.frames import FRAME_S
from producers.publisher import Publisher
from producers.recordings import RecordingSource, RecordingUnreadable
from producers.settings import AgentSettings
from tests.producers.sounds import frames_of, noise, silence
from tests.producers.test_publisher import agent_settings, free_broker, kill, read_back

if TYPE_CHECKING:
    from collections.abc import Iterator

    from earshot.segments import Segment

pytestmark = pytest.mark.integration

SAMPLES = Path(__file__).parents[2] / "samples"


class Frames:
    """A source of frames that the test has made, some of them after a loss."""

    def __init__(self, pieces: list[np.ndarray], lost_between: int = 0, *, live: bool = False) -> None:
        self.live = live
        self._pieces = pieces
        self._lost_between = lost_between
        self.lost_samples = 0

    def __iter__(self) -> Iterator[Any]:
        for number, piece in enumerate(self._pieces):
            self.lost_samples += self._lost_between if number else 0
            yield from frames_of(piece)

    def stop(self) -> None: ...


@pytest.fixture
def settings(broker: Broker) -> AgentSettings:
    return AgentSettings.read({"bootstrap_servers": broker.bootstrap_servers, "device_id": f"mic-{uuid.uuid4()}"})


@pytest.fixture
def publisher(settings: AgentSettings) -> Iterator[Publisher]:
    with Publisher(settings) as publisher:
        yield publisher


def test_a_recording_waits_while_the_broker_is_away_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "noise.wav"
    soundfile.write(path, noise(30.0, -20.0), 16_000)
    broker = free_broker(tmp_path)
    try:
        settings = agent_settings(broker.bootstrap_servers, queue_segments=2)
        with Publisher(settings) as publisher:
            port = int(broker.bootstrap_servers.rsplit(":", 1)[1])
            kill(broker)
            summaries: list[Summary] = []
            agent = Agent(settings, publisher)
            hearing = threading.Thread(target=lambda: summaries.append(agent.run(RecordingSource(path, speed=0))))
            hearing.start()
            give_up_at = time.monotonic() + 30.0
            while publisher.queued < 2:
                assert time.monotonic() < give_up_at
                time.sleep(0.02)
            broker = Broker(tmp_path / "kafka", port)
            broker.start()
            hearing.join(60.0)
        assert [(one.segments, one.sent, one.dropped) for one in summaries] == [(10, 10, 0)]
    finally:
        broker.stop()


def test_a_recording_that_waits_for_the_broker_can_be_stopped(tmp_path: Path) -> None:
    path = tmp_path / "noise.wav"
    soundfile.write(path, noise(30.0, -20.0), 16_000)
    broker = free_broker(tmp_path)
    try:
        settings = agent_settings(broker.bootstrap_servers, queue_segments=2, flush_s=1)
        with Publisher(settings) as publisher:
            kill(broker)
            agent = Agent(settings, publisher)
            hearing = threading.Thread(target=agent.run, args=[RecordingSource(path, speed=0)])
            hearing.start()
            give_up_at = time.monotonic() + 30.0
            while publisher.queued < 2:
                assert time.monotonic() < give_up_at
                time.sleep(0.02)
            agent.stop()
            hearing.join(30.0)
            assert not hearing.is_alive()
    finally:
        broker.stop()


def test_recordings_one_after_another_reach_kafka_in_one_numbering(
    settings: AgentSettings, publisher: Publisher
) -> None:
    cut: list[Segment] = []
    agent = Agent(settings, publisher, on_segment=cut.append)
    summaries = [agent.run(RecordingSource(SAMPLES / name, speed=0)) for name in ("siren.wav", "dog_bark.wav")]
    assert [summary.segments for summary in summaries] == [2, 1]
    assert [summary.sent for summary in summaries] == [2, 1]
    assert [summary.dropped for summary in summaries] == [0, 0]
    received = read_back(settings.bootstrap_servers, settings.device_id)
    assert [segment.sequence for segment in received] == [0, 1, 2]
    assert [segment.to_record() for segment in received] == [segment.to_record() for segment in cut]
    starts = [segment.start for segment in received]
    assert starts == sorted(starts)
    assert starts[1] - starts[0] == timedelta(seconds=3)
    assert [received[0].trigger == "continued", received[1].trigger] == [False, "continued"]
    siren, _ = soundfile.read(SAMPLES / "siren.wav", dtype="int16")
    for segment, window in zip(received[:2], windows(siren), strict=True):
        assert np.array_equal(segment.pcm, window)


def test_silence_is_heard_and_never_sent(settings: AgentSettings, publisher: Publisher) -> None:
    assert Agent(settings, publisher).run(Frames([silence(6.0)])) == Summary(200, 0, 0, 0)


def test_lost_sound_is_silence_in_its_place(settings: AgentSettings, publisher: Publisher) -> None:
    cut: list[Segment] = []
    before, after = noise(1.2, -15.0), noise(3.0, -15.0, seed=1)
    Agent(settings, publisher, on_segment=cut.append).run(Frames([before, after], lost_between=8_000))
    expected = np.concatenate([before, np.zeros(8_000, np.int16), after])
    assert np.array_equal(cut[0].pcm, expected[:SEGMENT_SAMPLES])


def test_a_live_streams_time_is_the_hosts_clock_also_where_that_is_set_and_a_recordings_is_its_own(
    settings: AgentSettings, publisher: Publisher
) -> None:
    booted, real = datetime(1970, 1, 1, tzinfo=UTC), datetime(2026, 11, 23, 18, tzinfo=UTC)
    pieces = [silence(1.0), noise(1.0, -15.0), silence(30.0), noise(1.0, -15.0), silence(5.0)]
    for live in (True, False):
        heard = itertools.count()

        def now(heard: Iterator[int] = heard) -> datetime:
            seconds = next(heard) * FRAME_S
            return (booted if seconds < 10.0 else real) + timedelta(seconds=seconds)

        cut: list[Segment] = []
        Agent(settings, publisher, on_segment=cut.append, now=now).run(Frames(pieces, live=live))
        early, late = (segment.start for segment in cut)
        assert early - booted < timedelta(seconds=1)
        assert late - (real if live else booted) == pytest.approx(timedelta(seconds=31.5), abs=timedelta(seconds=0.2))


def test_a_damaged_recording_is_named_and_what_was_cut_of_it_is_sent(
    settings: AgentSettings, publisher: Publisher, tmp_path: Path
) -> None:
    path = tmp_path / "cut.flac"
    soundfile.write(path, noise(8.0, -15.0), 16_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    with pytest.raises(RecordingUnreadable, match=r"cut\.flac"):
        Agent(settings, publisher).run(RecordingSource(path, speed=0))
    assert [segment.sequence for segment in read_back(settings.bootstrap_servers, settings.device_id)][:1] == [0]


def test_a_stopped_agent_ends_its_stream_sends_what_was_cut_and_hears_no_other(
    settings: AgentSettings, publisher: Publisher
) -> None:
    agent = Agent(settings, publisher)
    summaries: list[Summary] = []
    source = RecordingSource(SAMPLES / "street_music.wav", speed=0.5)
    thread = threading.Thread(target=lambda: summaries.append(agent.run(source)))
    thread.start()
    time.sleep(2.0)
    agent.stop()
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert 0 < summaries[0].frames < 200  # of the 6 s, which take 12
    assert summaries[0].segments == summaries[0].sent == 1
    assert agent.run(RecordingSource(SAMPLES / "siren.wav", speed=0)) == Summary(0, 0, 0, 0)
