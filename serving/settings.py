"""Settings of the model server."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads the annotation

from pydantic import Field

from earshot.settings import Settings


class ServerSettings(Settings, env_prefix="EARSHOT_SERVING_"):
    """Settings of the model server; names follow TensorFlow Serving's flags where it has one."""

    model_name: str = Field("earshot", min_length=1, description="Name that clients ask for.")
    model_base_path: Path | None = Field(
        None,
        description="Folder that holds a numeric folder for each version; without one, the starter model is served.",
    )
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for every network.")
    port: int = Field(8500, ge=0, le=65535, description="Port for gRPC; 0 takes a free one.")
    rest_api_port: int = Field(8501, ge=0, le=65535, description="Port for HTTP (metrics); 0 takes a free one.")
    poll_s: float = Field(1.0, gt=0, le=3600, description="Seconds between two looks for new versions.")
    concurrency: int = Field(
        0, ge=0, le=1024, description="Requests that run in the model at once; 0 is one for each processor core."
    )
    queue: int = Field(32, ge=0, le=10_000, description="Requests that may wait beside them; more are refused.")
    # A request is held in memory while it waits, and the network's activations need some 20 times its size.
    max_message_mib: int = Field(16, ge=1, le=1024, description="MiB that a request may have.")
    intra_op_threads: int = Field(0, ge=0, le=1024, description="TensorFlow's threads within one operation; 0 is auto.")
    inter_op_threads: int = Field(0, ge=0, le=1024, description="TensorFlow's threads across operations; 0 is auto.")
    grace_s: float = Field(5.0, ge=0, le=300, description="Seconds that requests in flight get when the server stops.")
