"""Settings of a worker."""

from __future__ import annotations

from pydantic import Field

from earshot.settings import GRPC_ADDRESS, KafkaSettings
from earshot.topics import DEAD_LETTERS, LABELS, SEGMENTS


class ProcessorSettings(KafkaSettings, env_prefix="EARSHOT_PROCESSOR_"):
    """Settings of a worker, `EARSHOT_PROCESSOR_*`."""

    group: str = Field(
        "earshot-processors",
        min_length=1,
        description="Consumer group; the workers of one group share the partitions of the segments topic.",
    )
    segments_topic: str = Field(SEGMENTS, min_length=1, description="Topic that segments are read from.")
    labels_topic: str = Field(LABELS, min_length=1, description="Topic that labels are written to.")
    dead_letters_topic: str = Field(
        DEAD_LETTERS, min_length=1, description="Topic that takes segments which cannot be processed."
    )
    model_server: str = Field(
        "localhost:8500",
        pattern=f"^{GRPC_ADDRESS}$",
        description="gRPC address of the model server, as host:port; dns:///host:port balances over all its addresses.",
    )
    model_name: str = Field("earshot", min_length=1, description="Name of the model on that server.")
    top_k: int = Field(5, ge=1, le=1000, description="How many classes a label names with their scores.")
    threshold: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Score below which a label is `unknown`, whatever lower threshold the model brings.",
    )
    max_batch: int = Field(
        16,
        ge=1,
        le=32,  # 32 spectrograms are 3.7 MB; a gRPC server takes 4 MB a message unless it is told otherwise
        description="Most segments in one request; a lone segment never waits for others.",
    )
    spectrogram_threads: int = Field(2, ge=1, le=64, description="Threads that compute spectrograms.")
    predict_timeout_s: float = Field(30.0, gt=0, le=300, description="Seconds that one request to the model may take.")
    retry_budget_s: float = Field(
        300.0,
        ge=0,
        le=1800,
        description="Seconds that the model server may be away before segments go to the dead-letter topic.",
    )
    broker_wait_s: float = Field(15.0, gt=0, le=600, description="Seconds to wait for a Kafka broker at the start.")
    session_timeout_s: float = Field(
        10.0,
        ge=6,  # the least that brokers accept by default
        le=60,
        description="Seconds after which the partitions of a worker that died go to the others.",
    )
    web_host: str = Field("127.0.0.1", min_length=1, description="Address that /metrics and /ready are served on.")
    web_port: int = Field(6066, ge=1, le=65535, description="Port that /metrics and /ready are served on.")
