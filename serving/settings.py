"""Settings of the model server."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads the annotation
from typing import Literal

from pydantic import Field, field_validator

from earshot.settings import Settings, renamed
from serving.layout import FILE_SCHEME


class ServerSettings(Settings, env_prefix="EARSHOT_SERVING_"):
    """Settings of the model server; names and files are TensorFlow Serving's where it has one."""

    model_name: str = Field("earshot", min_length=1, description="Name that clients ask for.")
    model_base_path: Path | None = Field(
        None,
        description="Folder that holds a numeric folder for each version; without one, the starter model is served.",
    )
    model_config_file: Path | None = Field(
        None,
        description="ModelServerConfig in protobuf's text format: several models, version policies, labels; instead of "
        "--model-name and --model-base-path.",
    )
    model_config_file_poll_wait_seconds: float = renamed(
        "model_config_file_poll_wait_seconds",
        "EARSHOT_SERVING_MODEL_CONFIG_FILE_POLL_S",
        0.0,
        ge=0,
        le=86_400,
        description="Seconds between two looks at that file; 0 reads it once.",
    )
    engine: Literal["tensorflow", "openvino"] = Field(
        "tensorflow",
        description="What runs models: TensorFlow any SavedModel, OpenVINO those that Earshot exports, on a CPU "
        "about three times as fast in int8.",
    )
    precision: Literal["f32", "bf16", "int8"] = Field(
        "f32",
        description="What OpenVINO computes in; bf16 needs a CPU that does, int8 a version on which "
        "`earshot models quantize` was run, as on the starter model.",
    )
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for every network.")
    port: int = Field(8500, ge=0, le=65535, description="Port for gRPC; 0 takes a free one.")
    grpc_socket_path: Path | None = Field(None, description="Unix socket to listen on for gRPC too.")
    grpc_channel_arguments: str = Field(
        "",
        pattern=r"^$|^[^=,]+=[^=,]+(,[^=,]+=[^=,]+)*$",
        description="gRPC's own options for the server, as grpc.max_connection_age_ms=2000,...",
    )
    ssl_config_file: Path | None = Field(
        None, description="SSLConfig in protobuf's text format: key, certificate, and whether clients need one too."
    )
    rest_api_port: int = Field(
        8501, ge=0, le=65535, description="Port for HTTP (REST API, metrics); 0 takes a free one."
    )
    rest_api_timeout_in_ms: int = Field(
        30_000,
        lt=1 << 31,
        description="Milliseconds that a request over HTTP may take; 0 or less: as long as it takes.",
    )
    monitoring_config_file: Path | None = Field(
        None, description="MonitoringConfig in protobuf's text format: whether, and at which path, metrics are served."
    )
    file_system_poll_wait_seconds: float = renamed(
        "file_system_poll_wait_seconds",
        "EARSHOT_SERVING_POLL_S",
        1.0,
        ge=0,
        le=31_536_000,
        description="Seconds between two looks for new versions; 0 looks once.",
    )
    max_num_load_retries: int = Field(
        5, ge=0, lt=1 << 31, description="How often a load is tried again that failed for a reason that may pass."
    )
    load_retry_interval_micros: int = Field(
        60_000_000, lt=1 << 63, description="Microseconds between two such tries; of less than 0: at once."
    )
    allow_version_labels_for_unavailable_models: bool = renamed(
        "allow_version_labels_for_unavailable_models",
        "EARSHOT_SERVING_LABELS_FOR_UNAVAILABLE",
        False,
        description="A new label may name a version that is not available yet.",
    )
    enable_model_warmup: bool = Field(True, description="Run a version's warm-up requests before it is served.")
    num_request_iterations_for_warmup: int = renamed(
        "num_request_iterations_for_warmup",
        "EARSHOT_SERVING_WARMUP_ITERATIONS",
        1,
        ge=1,
        description="How often each of them is run.",
    )
    enable_grpc_healthcheck_service: bool = renamed(
        "enable_grpc_healthcheck_service",
        "EARSHOT_SERVING_HEALTHCHECK",
        True,
        description="Answer gRPC's health service.",
    )
    enable_serialization_as_tensor_content: bool = renamed(
        "enable_serialization_as_tensor_content",
        "EARSHOT_SERVING_TENSOR_CONTENT",
        False,
        description="Answer Predict with numbers in tensor_content, and not in typed fields.",
    )
    enable_signature_method_name_check: bool = renamed(
        "enable_signature_method_name_check",
        "EARSHOT_SERVING_CHECK_METHOD_NAMES",
        False,
        description="Refuse requests that are not of the method that a signature says it is for (those of TensorFlow 2 "
        "all say predict).",
    )
    saved_model_tags: str = Field(
        "serve", min_length=1, description="Tags of the SavedModel's graph that is served, with commas between."
    )
    concurrency: int = Field(
        0, ge=0, le=1024, description="Requests that run in the model at once; 0 is two for each processor core."
    )
    queue: int = Field(32, ge=0, le=10_000, description="Requests that may wait beside them; more are refused.")
    enable_batching: bool = Field(
        False, description="Run requests that come close together as one, instead of --concurrency and --queue."
    )
    batching_parameters_file: Path | None = Field(
        None, description="BatchingParameters in protobuf's text format; none: TensorFlow Serving's defaults."
    )
    # A request is held in memory while it waits, and the network's activations need some 20 times its size.
    max_message_mib: int = Field(16, ge=1, le=1024, description="MiB that a request may have.")
    tensorflow_intra_op_parallelism: int = renamed(
        "tensorflow_intra_op_parallelism",
        "EARSHOT_SERVING_INTRA_OP_THREADS",
        0,
        ge=0,
        le=1024,
        description="TensorFlow's threads within one operation, or OpenVINO's; 0 is auto.",
    )
    tensorflow_inter_op_parallelism: int = renamed(
        "tensorflow_inter_op_parallelism",
        "EARSHOT_SERVING_INTER_OP_THREADS",
        0,
        ge=0,
        le=1024,
        description="TensorFlow's threads across operations; 0 is auto. OpenVINO has none.",
    )
    grace_s: float = Field(5.0, ge=0, le=300, description="Seconds that requests in flight get when the server stops.")

    @field_validator(
        "model_config_file",
        "grpc_socket_path",
        "ssl_config_file",
        "monitoring_config_file",
        "batching_parameters_file",
        mode="before",
    )
    @classmethod
    def _nothing_given(cls, value: object) -> object:
        """Take an empty one for none, as TensorFlow Serving does: deployments' templates write `--flag=` for it."""
        return None if value == "" else value

    @field_validator("model_base_path", mode="before")
    @classmethod
    def _without_scheme(cls, value: object) -> object:
        return value.removeprefix(FILE_SCHEME) if isinstance(value, str) else value

    @property
    def max_bytes(self) -> int:
        """Bytes that a request may have."""
        return self.max_message_mib * 1024 * 1024
