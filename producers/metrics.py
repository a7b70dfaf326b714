"""The agent's Prometheus metrics. Devices that share a process share them: levels are the last heard, counts add up."""

from __future__ import annotations

from typing import Literal, get_args

from prometheus_client import Counter, Gauge, Histogram

from earshot.audio import SILENCE_DBFS
from earshot.segments import Trigger

Overflown = Literal["portaudio", "queue"]
Dropped = Literal["queue_full", "refused", "stopped"]

FRAMES = Counter("earshot_agent_frames_total", "Frames of 30 ms that were heard.")
LEVEL = Gauge("earshot_agent_input_level_dbfs", "Level of the frame heard last, dBFS.")
LEVEL.set(SILENCE_DBFS)
OVERFLOWS = Counter(
    "earshot_agent_overflows_total",
    "Times that sound was lost before it was heard: in PortAudio, or in the agent's own queue.",
    ["where"],
)
LOST = Counter("earshot_agent_lost_seconds_total", "Seconds of sound that were lost before they were heard.")
SEGMENTS_CUT = Counter("earshot_agent_segments_cut_total", "Segments cut.", ["trigger"])
SEGMENTS_SENT = Counter("earshot_agent_segments_sent_total", "Segments that the broker acknowledged.", ["trigger"])
SEGMENTS_DROPPED = Counter(
    "earshot_agent_segments_dropped_total", "Segments lost: the queue was full, or the broker refused them.", ["reason"]
)
BROKER_ERRORS = Counter("earshot_agent_broker_errors_total", "Errors that ended the sending of a segment.", ["error"])
QUEUE = Gauge("earshot_agent_queue_segments", "Segments that wait for the broker's acknowledgement.")
SEND_LATENCY = Histogram(
    "earshot_agent_send_latency_seconds",
    "From a segment's hand-over to the producer to the broker's acknowledgement.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)

# Counters begin at 0 when the agent does: Prometheus does not see the first step of one that begins at 1.
for _trigger in get_args(Trigger):
    SEGMENTS_CUT.labels(_trigger)
    SEGMENTS_SENT.labels(_trigger)
for _where in get_args(Overflown):
    OVERFLOWS.labels(_where)
for _reason in get_args(Dropped):
    SEGMENTS_DROPPED.labels(_reason)
