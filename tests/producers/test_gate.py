from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from earshot.audio import level_dbfs
from producers.gate import EnergyDetector, Gate
from tests.producers.sounds import frames_of, noise, silence, tone

if TYPE_CHECKING:
    from producers.settings import GateKind

SAMPLES = sorted((Path(__file__).parents[2] / "samples").glob("*.wav"))
KINDS: tuple[GateKind, ...] = ("vad", "energy", "either")


def triggers(gate: Gate, samples: np.ndarray) -> list[str | None]:
    return [gate.update(frame).trigger for frame in frames_of(samples)]


@pytest.mark.parametrize("kind", KINDS)
def test_digital_silence_never_triggers(kind: GateKind) -> None:
    assert set(triggers(Gate(kind, vad_mode=0, floor_dbfs=-120.0), silence(5.0))) == {None}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_below_the_least_level_never_triggers(kind: GateKind) -> None:
    gate = Gate(kind, vad_mode=0, floor_dbfs=-120.0, least_dbfs=-50.0)
    assert set(triggers(gate, noise(5.0, -60.0))) == {None}


def test_a_tone_over_quiet_noise_opens_the_energy_gate_within_two_frames() -> None:
    gate = Gate("energy")
    assert set(triggers(gate, noise(3.0, -66.0))) == {None}
    assert triggers(gate, tone(0.15, -30.0))[:2] == [None, "energy"]


def test_one_loud_frame_is_a_click_and_no_sound() -> None:
    gate = Gate("energy")
    click = np.concatenate([silence(0.3), tone(0.03, -10.0), silence(0.3)])
    assert set(triggers(gate, click)) == {None}


def test_background_becomes_the_floor_and_what_rises_above_it_is_heard() -> None:
    gate = Gate("energy")
    background = triggers(gate, noise(60.0, -40.0))
    assert background[10] == "energy"  # the stored floor is that of a quiet room
    assert background[-1] is None
    assert "energy" in triggers(gate, noise(0.3, -25.0))


def test_the_floor_follows_a_background_that_falls_quickly_and_one_that_rises_slowly() -> None:
    detector = EnergyDetector(margin_db=8.0, floor_dbfs=-40.0)
    for frame in frames_of(noise(3.0, -70.0)):
        detector.hears(level_dbfs(frame), audible=True)
    assert detector.floor_dbfs == pytest.approx(-70.0, abs=2.0)
    for frame in frames_of(noise(3.0, -40.0)):
        detector.hears(level_dbfs(frame), audible=True)
    assert detector.floor_dbfs < -67.0


def test_a_steady_hiss_at_the_floor_does_not_open_the_default_gate() -> None:
    """webrtcvad calls the first frames of any stream voiced, whatever they hold; after them a quiet room is quiet."""
    gate = Gate(floor_dbfs=-55.0)
    heard = triggers(gate, noise(30.0, -55.0, seed=3))
    assert set(heard[10:]) == {None}


@pytest.mark.parametrize("clip", SAMPLES, ids=lambda path: path.stem)
def test_the_default_gate_hears_every_sample_clip(clip: Path) -> None:
    samples, _ = soundfile.read(clip, dtype="int16")
    heard = {trigger for trigger in triggers(Gate(), samples) if trigger}
    assert heard
    assert heard <= {"vad", "energy", "vad+energy"}


def test_a_kind_of_gate_asks_only_its_own_detector() -> None:
    samples, _ = soundfile.read(next(path for path in SAMPLES if path.stem == "dog_bark"), dtype="int16")
    assert set(triggers(Gate("vad"), samples)) <= {None, "vad"}
    assert set(triggers(Gate("energy"), samples)) <= {None, "energy"}
    assert "vad+energy" in triggers(Gate("either"), samples)


def test_activity_tells_the_level_and_is_active_with_a_trigger_only() -> None:
    gate = Gate()
    for frame in frames_of(np.concatenate([silence(0.3), tone(0.3, -20.0)])):
        activity = gate.update(frame)
        assert activity.active == (activity.trigger is not None)
        assert activity.level_dbfs == level_dbfs(frame)
