from __future__ import annotations

import pytest

from serving.settings import ServerSettings


@pytest.mark.parametrize(
    "name",
    ["model_config_file", "grpc_socket_path", "ssl_config_file", "monitoring_config_file", "batching_parameters_file"],
)
def test_a_file_without_a_name_is_none_as_in_tensorflow_serving(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert getattr(ServerSettings.read({name: ""}), name) is None
    monkeypatch.setenv(ServerSettings.variable(name), "")
    assert getattr(ServerSettings.read(), name) is None
