"""The configuration files of the server other than the models': TLS and monitoring."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from serving.modelserver.model_config import InvalidConfig, read_text_proto
from serving.modelserver.rest import METRICS_PATH
from serving.modelserver.text_protos import MonitoringConfig, SSLConfig

if TYPE_CHECKING:
    from pathlib import Path


def read_credentials(path: Path) -> grpc.ServerCredentials:
    """TLS as the file that `--ssl-config-file` names says; raises InvalidConfig."""
    config = SSLConfig()
    read_text_proto(path, config)
    if not (config.server_key and config.server_cert):
        raise InvalidConfig(f"{path} needs a server_key and a server_cert, both as PEM")
    for name in ("server_key", "server_cert", "custom_ca"):
        text = getattr(config, name)
        if text and "-----BEGIN" not in text:
            raise InvalidConfig(
                f"{path}: {name} must be the text of a PEM file, which begins with -----BEGIN, not its path"
            )
    if config.client_verify and not config.custom_ca:
        raise InvalidConfig(f"{path} asks clients for certificates (client_verify) and has no custom_ca to verify them")
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        root_certificates=config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )


def read_metrics_path(path: Path) -> str | None:
    """The path of the metrics as the file that `--monitoring-config-file` names says; None: there are to be none.

    Raises InvalidConfig.
    """
    config = MonitoringConfig()
    read_text_proto(path, config)
    if not config.prometheus_config.enable:
        return None
    metrics_path: str = config.prometheus_config.path or METRICS_PATH
    if not metrics_path.startswith("/") or set(metrics_path) & set("{}"):
        raise InvalidConfig(f"{path}: the path of the metrics must begin with a slash, and have no braces")
    return metrics_path
