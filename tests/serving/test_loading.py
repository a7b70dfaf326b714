from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs
from tensorflow_serving.apis import prediction_log_pb2

from serving.failures import CannotLoadNow
from serving.modelserver.loading import Loader, warm_up
from serving.modelserver.metrics import ServingMetrics
from serving.modelserver.model_config import InvalidConfig
from serving.settings import ServerSettings
from tests.serving.engines import Doubler
from tests.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path


def made(**settings: Any) -> Loader:
    return Loader(ServerSettings(**settings), ServingMetrics())


def test_a_loader_that_stops_ends_a_conversion_under_way_and_loads_nothing_more(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EARSHOT_CACHE", str(tmp_path))
    loader = made(engine="openvino")
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(loader.load, exported)
        wait_for(lambda: list(tmp_path.glob("openvino/.*")), 10, "the conversion to begin")
        loader.stop()
        with pytest.raises(CannotLoadNow, match="stopped"):
            loading.result(timeout=2)
    assert not list(tmp_path.glob("openvino/*"))
    with pytest.raises(CannotLoadNow, match="stopping"):
        loader.load(exported)


def test_tags_that_openvino_would_not_heed_are_refused_with_what_heeds_them() -> None:
    with pytest.raises(InvalidConfig, match=r"--saved-model-tags serve,gpu .* --engine tensorflow"):
        made(engine="openvino", saved_model_tags="serve,gpu")
    made(engine="openvino")
    made(saved_model_tags="serve,gpu")


def test_warm_up_requests_of_a_kind_that_is_not_replayed_are_told() -> None:
    of_a_session = prediction_log_pb2.PredictionLog()
    of_a_session.session_run_log.SetInParent()
    with capture_logs() as lines:
        warm_up(Doubler(), [of_a_session, prediction_log_pb2.PredictionLog()])
    assert [line["kind"] for line in lines] == ["session_run_log", "none that is known"]
