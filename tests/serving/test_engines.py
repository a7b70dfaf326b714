"""Whichever engine serves, a client sees the same server."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from serving.export import export_saved_model
from tests.serving.conftest import CLASS_NAMES, Served, serve, small_network
from tests.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 128, 301, 3)).astype(np.uint8)
SOUND = np.random.default_rng(0).integers(-3000, 3000, (2, 48_000)).astype(np.int16)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARSHOT_CACHE", str(tmp_path / "cache"))


def metadata(server: Served) -> get_model_metadata_pb2.SignatureDefMap:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "earshot"
    signatures = get_model_metadata_pb2.SignatureDefMap()
    server.predictions.GetModelMetadata(request).metadata["signature_def"].Unpack(signatures)
    return signatures


def test_openvino_answers_as_tensorflow_does(base_path: Path, served: Served) -> None:
    with serve(base_path, engine="openvino") as server:
        server.wait_until_available(1)
        for asked in ({"spectrogram": IMAGES}, {"signature": "pcm", "pcm": SOUND}):
            answer, expected = server.predict(**asked), served.predict(**asked)
            assert answer.model_spec == expected.model_spec
            assert answer.outputs.keys() == expected.outputs.keys()
            for name, tensor in expected.outputs.items():
                wanted, got = tf.make_ndarray(tensor), tf.make_ndarray(answer.outputs[name])
                assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
                if wanted.dtype == object:
                    np.testing.assert_array_equal(got, wanted)
                else:
                    np.testing.assert_allclose(got, wanted, atol=1e-3)
        assert metadata(server) == metadata(served)


def test_openvino_swaps_versions(base_path: Path) -> None:
    with serve(base_path, engine="openvino") as server:
        server.wait_until_available(1)
        export_saved_model(small_network(seed=2), CLASS_NAMES, base_path / "2")
        server.wait_until_available(2)
        assert server.predict(spectrogram=IMAGES).model_spec.version.value == 2
        wait_for(lambda: server.states() == {1: "END", 2: "AVAILABLE"}, 20, "version 1 to be unloaded")


def test_what_openvino_cannot_serve_is_refused_with_the_next_step(base_path: Path) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "earshot"
    with serve(base_path, engine="openvino", precision="int8") as server:
        wait_for(lambda: server.states() == {1: "END"}, 60, "version 1 to be given up")
        (status,) = server.models.GetModelStatus(request).model_version_status
        assert "earshot models quantize" in status.status.error_message
        shutil.rmtree(base_path / "1")
