from __future__ import annotations

import os
import shutil
import threading
import time
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from google.protobuf import text_format
from structlog.testing import capture_logs
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import get_model_status_pb2

from serving.engines.tensorflow_engine import TensorFlowEngine
from serving.export import export_saved_model
from serving.modelserver.version_status import State
from serving.modelserver.versions import SETTLED_S, VersionWatcher
from serving.tfrecord import write_records
from serving.warmup import write_warmup
from tests.serving.conftest import CLASS_NAMES, Served, predict_request, serve, small_network
from tests.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = np.zeros((1, 128, 301, 3), np.uint8)


def status(server: Served, version: int) -> Any:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "earshot"
    request.model_spec.version.value = version
    return server.models.GetModelStatus(request).model_version_status[0]


def test_status_of_an_available_version(served: Served) -> None:
    answer = status(served, 1)
    assert answer.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE
    assert answer.status.error_code == 0
    assert answer.status.error_message == ""


@pytest.mark.parametrize(("name", "version"), [("nightingale", None), ("earshot", 9)])
def test_status_of_what_is_not_there_is_not_found(served: Served, name: str, version: int | None) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    if version is not None:
        request.model_spec.version.value = version
    with pytest.raises(grpc.RpcError) as caught:
        served.models.GetModelStatus(request)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_half_written_version_is_left_alone_until_it_is_whole(base_path: Path, exported: Path) -> None:
    with serve(base_path) as server:
        server.wait_until_available(1)
        half = base_path / "2"
        shutil.copytree(exported, half, ignore=shutil.ignore_patterns("saved_model.pb"))
        wait_for(lambda: 2 in server.states(), 10, "version 2 to be seen")
        time.sleep(SETTLED_S + 0.3)
        assert server.states() == {1: "AVAILABLE", 2: "START"}
        assert server.predict(spectrogram=IMAGE).model_spec.version.value == 1

        shutil.copy(exported / "saved_model.pb", half)
        server.wait_until_available(2)
        assert server.predict(spectrogram=IMAGE).model_spec.version.value == 2
        wait_for(lambda: server.states().get(1) == "END", 10, "version 1 to be unloaded")


def test_a_version_that_is_still_being_written_is_not_touched(exported: Path, tmp_path: Path) -> None:
    """Each poll sees other files than the one before, so none tries to load."""
    tried: list[Path] = []

    def load(folder: Path) -> Any:
        tried.append(folder)
        return TensorFlowEngine(folder)

    watcher = VersionWatcher(tmp_path, load)
    shutil.copytree(exported, tmp_path / "1")
    for step in range(3):
        (tmp_path / "1" / "growing").write_bytes(b"." * step)
        watcher.poll()
    assert tried == []
    watcher.poll()
    assert tried == [tmp_path / "1"]
    assert [each.state for each in watcher.statuses()] == [State.AVAILABLE]


def broken_by(folder: Path, how: str) -> None:
    graph = folder / "saved_model.pb"
    if how == "truncated graph":
        os.truncate(graph, graph.stat().st_size // 2)
    elif how == "empty graph":
        graph.write_bytes(b"")
    elif how == "no variables":
        shutil.rmtree(folder / "variables")
    elif how == "broken warm-up":
        (folder / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"no record" * 9)
    elif how == "warm-up of nonsense":
        write_records(folder / "assets.extra" / "tf_serving_warmup_requests", [b"\xff nonsense"])
    elif how == "unanswerable warm-up":
        write_warmup(folder, {"serving_default": {"spectrogram": np.zeros((1, 2), np.uint8)}})


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("truncated graph", grpc.StatusCode.DATA_LOSS),
        ("empty graph", grpc.StatusCode.NOT_FOUND),
        ("no variables", grpc.StatusCode.UNKNOWN),
        ("broken warm-up", grpc.StatusCode.DATA_LOSS),
        ("unanswerable warm-up", grpc.StatusCode.INVALID_ARGUMENT),
        ("warm-up of nonsense", grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_a_broken_version_is_reported_and_never_served_until_it_is_mended(
    base_path: Path, exported: Path, how: str, code: grpc.StatusCode
) -> None:
    with serve(base_path) as server:
        server.wait_until_available(1)
        shutil.copytree(exported, base_path / ".2")
        broken_by(base_path / ".2", how)
        (base_path / ".2").rename(base_path / "2")
        wait_for(lambda: server.states().get(2) == "END", 20, "version 2 to be given up")
        assert status(server, 2).status.error_code == code.value[0]
        assert status(server, 2).status.error_message
        assert server.predict(spectrogram=IMAGE).model_spec.version.value == 1

        told = status(server, 2)
        shutil.rmtree(base_path / "2")
        time.sleep(1)  # some looks at the base path
        assert status(server, 2) == told
        shutil.copytree(exported, base_path / "2")
        server.wait_until_available(2)


def test_when_the_newest_is_broken_at_the_start_the_one_before_is_served(base_path: Path) -> None:
    (base_path / "2").mkdir()
    (base_path / "2" / "saved_model.pb").write_bytes(b"no graph")
    with serve(base_path) as server:
        server.wait_until_available(1)
        assert server.states() == {1: "AVAILABLE", 2: "END"}


def test_a_vanished_version_gives_way_to_the_one_before_and_then_to_none(base_path: Path, exported: Path) -> None:
    shutil.copytree(exported, base_path / "2")
    with serve(base_path) as server:
        server.wait_until_available(2)
        shutil.rmtree(base_path / "2")
        server.wait_until_available(1)
        shutil.rmtree(base_path / "1")
        wait_for(lambda: server.states() == {1: "END", 2: "END"}, 10, "everything to be unloaded")
        with pytest.raises(grpc.RpcError) as caught:
            server.predict(spectrogram=IMAGE)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_number_higher_than_the_protocol_can_say_is_no_version(base_path: Path, exported: Path) -> None:
    shutil.copytree(exported, base_path / str(2**63))
    with serve(base_path) as server:
        server.wait_until_available(1)
        assert server.states() == {1: "AVAILABLE"}


def test_a_number_that_is_too_high_is_said_once(tmp_path: Path) -> None:
    (tmp_path / str(2**63)).mkdir()
    watcher = VersionWatcher(tmp_path, TensorFlowEngine)
    with capture_logs() as lines:
        watcher.poll()
        watcher.poll()
    said = [line for line in lines if "number is too high" in line["event"]]
    assert [line["folder"] for line in said] == [str(tmp_path / str(2**63))]


def test_an_empty_base_path_is_watched_until_a_version_appears(tmp_path: Path, network: Any) -> None:
    with serve(tmp_path) as server:
        assert server.states() == {}
        export_saved_model(network, CLASS_NAMES, tmp_path / "3")
        server.wait_until_available(3)


def test_without_warm_up_requests_a_zero_batch_warms_up(base_path: Path) -> None:
    shutil.rmtree(base_path / "1" / "assets.extra")
    with serve(base_path) as server:
        server.wait_until_available(1)
        assert server.predict(spectrogram=IMAGE).model_spec.version.value == 1


def test_hot_swap_under_load_fails_no_request_and_never_mixes_versions(base_path: Path) -> None:
    answers: list[tuple[int, tuple[float, ...]]] = []
    failures: list[grpc.RpcError] = []
    done = threading.Event()
    request = predict_request(spectrogram=IMAGE + np.uint8(90))

    def client(server: Served) -> None:
        while not done.is_set():
            try:
                answer = server.predictions.Predict(request, timeout=30)
            except grpc.RpcError as error:
                failures.append(error)
                return
            answers.append((answer.model_spec.version.value, tuple(answer.outputs["scores"].float_val)))

    with serve(base_path) as server:
        server.wait_until_available(1)
        threads = [threading.Thread(target=client, args=(server,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for version in (2, 3):
            export_saved_model(small_network(seed=version), CLASS_NAMES, base_path / str(version))
            server.wait_until_available(version)
            wait_for(lambda: answers[-1][0] == version, 20, f"answers of version {version}")  # noqa: B023
        after_swap = server.predict(spectrogram=IMAGE).model_spec.version.value
        done.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert after_swap == 3
    scores: dict[int, list[tuple[float, ...]]] = {}
    for version, each in answers:
        scores.setdefault(version, []).append(each)
    assert set(scores) == {1, 2, 3}
    for each_version in scores.values():
        np.testing.assert_allclose(each_version, [each_version[0]] * len(each_version), atol=1e-5)
    means = [np.mean(scores[version], axis=0) for version in (1, 2, 3)]
    assert np.abs(means[0] - means[1]).max() > 1e-3
    assert np.abs(means[1] - means[2]).max() > 1e-3


def test_a_graph_in_protobufs_text_format_is_served(base_path: Path) -> None:
    graph = base_path / "1" / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(graph.read_bytes())
    graph.with_suffix(".pbtxt").write_text(text_format.MessageToString(saved))
    graph.unlink()
    with serve(base_path) as server:
        server.wait_until_available(1)
        assert server.predict(spectrogram=IMAGE).model_spec.version.value == 1
