"""Settings of the microphone agent: variables `EARSHOT_AGENT_*`, options of `earshot agent`."""

from __future__ import annotations

import re
import socket
from typing import Literal

from pydantic import Field, field_validator

from earshot.settings import KafkaSettings

GateKind = Literal["vad", "energy", "either"]


class AgentSettings(KafkaSettings, env_prefix="EARSHOT_AGENT_"):
    """What one agent, on one microphone host, is told."""

    device_id: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._-]{0,128}$",
        description="Name of this device, the key of its records: letters, digits, . _ and -; empty: the host name.",
    )
    device: str = Field(
        "", description="Microphone, by part of its name or by index (see `earshot devices`); empty: the default one."
    )
    gate: GateKind = Field("either", description="What opens a segment: vad, energy, or either of them.")
    vad_mode: int = Field(
        3,
        ge=0,
        le=3,
        description="How strict webrtcvad is, from 0 to 3; below 3 it often hears something in quiet rooms.",
    )
    energy_margin_db: float = Field(
        8.0, gt=0, le=60, description="Decibels above the noise floor at which the energy gate hears something."
    )
    noise_floor_dbfs: float = Field(
        -70.0, ge=-120, le=0, description="Noise floor that the energy gate starts from, in dBFS; it adapts by itself."
    )
    least_level_dbfs: float = Field(
        -60.0, ge=-120, le=0, description="Level below which nothing ever counts as sound, in dBFS."
    )
    pre_roll_s: float = Field(0.5, ge=0, le=2, description="Seconds before its trigger with which a segment begins.")
    hang_over_s: float = Field(
        0.3, ge=0, le=2, description="Seconds without sound at a segment's end after which the sound counts as over."
    )
    queue_segments: int = Field(
        600,
        ge=1,
        le=100_000,
        description="Segments (about 200 KB each) that wait for the broker at most; beyond them new ones are dropped.",
    )
    broker_wait_s: float = Field(30.0, ge=1, le=3600, description="Seconds to wait for the broker at the start.")
    flush_s: float = Field(30.0, ge=0, le=3600, description="Seconds to send what is queued when the agent stops.")
    microphone_wait_s: float = Field(
        30.0, ge=0, le=86_400, description="Seconds to try to reopen a microphone that vanished."
    )
    metrics_host: str = Field(
        "127.0.0.1", min_length=1, description="Address that the metrics are served on; 0.0.0.0 for every network."
    )
    metrics_port: int = Field(9101, ge=0, le=65_535, description="Port of the Prometheus metrics; 0: none.")

    @field_validator("device_id")
    @classmethod
    def _host_name(cls, value: str) -> str:
        """An empty device id is the host's name; the record's headers carry it in a URI, so it is kept plain."""
        return value or re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()) or "device"
