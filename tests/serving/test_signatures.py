"""What signatures say of themselves, and which requests they take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_status_pb2, model_pb2, model_service_pb2_grpc, regression_pb2

from serving.engines.tensorflow_engine import TensorFlowEngine
from serving.modelserver.errors import ServingError
from serving.modelserver.model_config import ModelConfig
from serving.modelserver.signatures import decode_inputs
from tests.conformance.conftest import refused
from tests.conformance.models import write_doubled, write_half_plus, write_mixed
from tests.conformance.requests import examples
from tests.serving.conftest import Served, predict_request, serve
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

INIT = "__saved_model_init_op"
"""What TensorFlow 2 writes beside the signatures; its output is an operation."""


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that has signatures say what they are for."""
    folder = tmp_path_factory.mktemp("strict")
    write_half_plus(folder / "half" / "1", 1.0)
    write_doubled(folder / "doubled" / "1")
    models = [
        ModelConfig("half", folder / "half", labels={"stable": 1}),
        ModelConfig("doubled", folder / "doubled"),
    ]
    with serve(folder, models, enable_signature_method_name_check=True) as server:
        for model in models:
            wait_for(lambda: server.states(model.name) == {1: "AVAILABLE"}, 60, model.name)  # noqa: B023
        yield server


def regress(server: Served, model: str, signature: str = "") -> list[float]:
    spec = model_pb2.ModelSpec(name=model, signature_name=signature)
    request = regression_pb2.RegressionRequest(model_spec=spec, input=examples(2))
    return [each.value for each in server.predictions.Regress(request, timeout=30).result.regressions]


def test_where_it_is_asked_for_a_signature_has_to_say_what_it_is_for(strict: Served) -> None:
    assert regress(strict, "half", "regress") == [2.0]
    code, details = refused(lambda: regress(strict, "doubled"))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "method_name to be tensorflow/serving/regress. Was: tensorflow/serving/predict" in details
    code, details = refused(lambda: strict.predictions.Predict(predict_request("doubled", INIT), timeout=30))
    assert code is grpc.StatusCode.INTERNAL
    assert "prediction signature method_name" in details


def test_the_status_of_what_a_label_stands_for(strict: Served) -> None:
    service = model_service_pb2_grpc.ModelServiceStub(strict.channel)
    asked = get_model_status_pb2.GetModelStatusRequest()
    asked.model_spec.name, asked.model_spec.version_label = "half", "stable"
    (status,) = service.GetModelStatus(asked, timeout=30).model_version_status
    assert status.version == 1
    asked.model_spec.version_label = "beta"
    code, details = refused(lambda: service.GetModelStatus(asked, timeout=30))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "Unrecognized servable version label: beta" in details


def test_an_input_that_has_a_default_need_not_be_sent() -> None:
    signature = meta_graph_pb2.SignatureDef()
    for name in ("x", "times"):
        signature.inputs[name].dtype = tf.float32.as_datatype_enum
        signature.inputs[name].tensor_shape.unknown_rank = True
    signature.defaults["times"].CopyFrom(tf.make_tensor_proto(np.float32(3)))
    x, times = tf.make_tensor_proto(np.array([1, 2], np.float32)), tf.make_tensor_proto(np.float32(7))
    assert decode_inputs(signature, {"x": x}, 1 << 20)["times"] == 3.0
    assert decode_inputs(signature, {"x": x, "times": times}, 1 << 20)["times"] == 7.0
    with pytest.raises(ServingError, match=r"Missing but required: \{x\}"):
        decode_inputs(signature, {"times": times}, 1 << 20)


def graph_of(path: Path, sizes: list[int | None], made: Callable[[Any], Any]) -> TensorFlowEngine:
    """A model as TensorFlow 1 wrote them, of what is made of an input of these sizes."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, sizes, name="x")
        v1.saved_model.simple_save(session, str(path), {"x": x}, {"y": made(x)})
    return TensorFlowEngine(path)


def convolved(x: Any) -> Any:
    return tf.nn.conv2d(x, np.ones((2, 2, 3, 1), np.float32), 1, "SAME")


@pytest.mark.parametrize(
    ("sizes", "made", "sent"),
    [
        ([None, 8, 8, 3], convolved, (3,)),
        ([None, 8, 8, 3], lambda x: tf.cond(tf.size(x) > 0, lambda: convolved(x), lambda: x), (3,)),
        ([2, 8, 8, 3], lambda x: convolved(tf.squeeze(x)), (1, 8, 8, 3)),
        ([None, 1], lambda x: tf.reshape(x, [-1, 1]), (3,)),
    ],
)
def test_shapes_are_the_signatures_where_what_is_computed_depends_on_them(
    tmp_path: Path, sizes: list[int | None], made: Callable[[Any], Any], sent: tuple[int, ...]
) -> None:
    engine = graph_of(tmp_path / "1", sizes, made)
    with pytest.raises(ServingError, match="must have shape"):
        engine.run("serving_default", {"x": np.ones(sent, np.float32)}, ["y"])
    assert engine.run("serving_default", {"x": np.ones([size or 2 for size in sizes], np.float32)}, ["y"])
    engine.close()


def test_shapes_are_anything_where_each_element_is_computed_by_itself(tmp_path: Path) -> None:
    engine = graph_of(tmp_path / "1", [None, 1], lambda x: tf.maximum(x * 2.0, 3.0))
    for sent in (np.full((), 2, np.float32), np.ones(3, np.float32), np.ones((2, 2), np.float32)):
        np.testing.assert_array_equal(
            engine.run("serving_default", {"x": sent}, ["y"])["y"], np.maximum(sent * np.float32(2), 3)
        )
    engine.close()


def test_what_initialises_a_model_is_no_answer(tmp_path: Path) -> None:
    write_mixed(tmp_path / "1")
    engine = TensorFlowEngine(tmp_path / "1")
    with pytest.raises(ServingError, match="is an operation, NoOp, and no tensor"):
        engine.run(INIT, {}, [INIT])
    engine.close()


def test_a_model_without_signatures_is_loaded_and_has_none(tmp_path: Path) -> None:
    tf.saved_model.save(tf.Module(), str(tmp_path / "1"))
    with serve(tmp_path) as server:
        server.wait_until_available(1)
        code, details = refused(lambda: server.predict(x=np.float32(1)))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert 'Serving signature key "serving_default" not found' in details
