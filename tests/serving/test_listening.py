"""How the server is reached: TLS, a Unix socket, and the metrics' path."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import trustme
from tensorflow_serving.apis import prediction_service_pb2_grpc

from serving.modelserver.model_config import InvalidConfig
from serving.modelserver.server import PortTaken
from serving.modelserver.server_files import read_credentials, read_metrics_path
from tests.serving.conftest import predict_request, serve

if TYPE_CHECKING:
    from pathlib import Path

BEGIN = '"-----BEGIN"'
IMAGE = np.zeros((1, 128, 301, 3), np.uint8)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def pem(blob: Any) -> str:
    text: str = blob.bytes().decode()
    return text


def ssl_config(folder: Path, authority: trustme.CA, *, clients: bool) -> Path:
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    values: dict[str, Any] = {
        "server_key": pem(certificate.private_key_pem),
        "server_cert": "".join(pem(each) for each in certificate.cert_chain_pems),
    }
    if clients:
        values |= {"custom_ca": pem(authority.cert_pem), "client_verify": True}
    file = folder / "ssl.config"
    file.write_text("\n".join(f"{name}: {json.dumps(value)}" for name, value in values.items()))
    return file


def ask(channel: grpc.Channel) -> int:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    with channel:
        version: int = stub.Predict(predict_request(spectrogram=IMAGE), timeout=30).model_spec.version.value
        return version


def refused(channel: grpc.Channel) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        ask(channel)
    return caught.value.code()


def trusting(authority: trustme.CA, certificate: trustme.LeafCert | None = None) -> grpc.ChannelCredentials:
    if certificate is None:
        return grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    chain = b"".join(each.bytes() for each in certificate.cert_chain_pems)
    return grpc.ssl_channel_credentials(authority.cert_pem.bytes(), certificate.private_key_pem.bytes(), chain)


def test_tls(base_path: Path, tmp_path: Path, authority: trustme.CA) -> None:
    with serve(
        base_path, secure=trusting(authority), ssl_config_file=ssl_config(tmp_path, authority, clients=False)
    ) as server:
        server.wait_until_available(1)
        assert ask(grpc.secure_channel(server.address, trusting(authority))) == 1
        assert refused(grpc.insecure_channel(server.address)) is grpc.StatusCode.UNAVAILABLE
        assert refused(grpc.secure_channel(server.address, trusting(trustme.CA()))) is grpc.StatusCode.UNAVAILABLE


def test_mutual_tls(base_path: Path, tmp_path: Path, authority: trustme.CA) -> None:
    own = trusting(authority, authority.issue_cert("client"))
    config, path = ssl_config(tmp_path, authority, clients=True), tmp_path / "socket"
    with serve(base_path, secure=own, ssl_config_file=config, grpc_socket_path=path) as server:
        server.wait_until_available(1)
        named = [("grpc.ssl_target_name_override", "localhost")]
        assert ask(grpc.secure_channel(f"unix:{path}", own, named)) == 1
        assert refused(grpc.secure_channel(f"unix:{path}", trusting(authority), named)) is grpc.StatusCode.UNAVAILABLE
        assert refused(grpc.insecure_channel(f"unix:{path}")) is grpc.StatusCode.UNAVAILABLE
        assert ask(grpc.secure_channel(server.address, own)) == 1
        assert refused(grpc.secure_channel(server.address, trusting(authority))) is grpc.StatusCode.UNAVAILABLE
        stranger = trusting(authority, trustme.CA().issue_cert("client"))
        assert refused(grpc.secure_channel(server.address, stranger)) is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('server_key: "key"', "needs a server_key and a server_cert"),
        (f"server_key: {BEGIN} server_cert: {BEGIN} client_verify: true", "has no custom_ca"),
        (f'server_key: {BEGIN} server_cert: "/etc/ssl/cert.pem"', "server_cert must be the text of a PEM file"),
        ("server_keys: 1", "SSLConfig in protobuf's text format"),
    ],
)
def test_a_wrong_tls_file_is_explained(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "ssl.config").write_text(text)
    with pytest.raises(InvalidConfig, match=words):
        read_credentials(tmp_path / "ssl.config")


def test_a_unix_socket_beside_the_port(base_path: Path, tmp_path: Path) -> None:
    with serve(base_path, grpc_socket_path=tmp_path / "socket") as server:
        server.wait_until_available(1)
        assert ask(grpc.insecure_channel(f"unix:{tmp_path / 'socket'}")) == 1
        assert ask(grpc.insecure_channel(server.address)) == 1


def test_a_socket_that_another_server_uses_is_left_to_it(base_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with serve(base_path, grpc_socket_path=path) as first:
        first.wait_until_available(1)
        with pytest.raises(PortTaken, match="another server uses it"), serve(base_path, grpc_socket_path=path):
            pass
        assert ask(grpc.insecure_channel(f"unix:{path}")) == 1


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('prometheus_config { enable: true path: "/metrics" }', "/metrics"),
        ("prometheus_config { enable: true }", "/monitoring/prometheus/metrics"),
        ("prometheus_config { enable: false }", None),
        ("", None),
    ],
)
def test_the_monitoring_file_says_whether_and_where_metrics_are(tmp_path: Path, text: str, path: str | None) -> None:
    file = tmp_path / "monitoring.config"
    file.write_text(text)
    assert read_metrics_path(file) == path
    with serve(tmp_path, monitoring_config_file=file) as server:
        base = server.metrics_url.removesuffix("/monitoring/prometheus/metrics")
        if path:
            with urllib.request.urlopen(base + path, timeout=10) as answer:
                assert b":tensorflow:serving:request_count" in answer.read()
        else:
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(server.metrics_url, timeout=10)
