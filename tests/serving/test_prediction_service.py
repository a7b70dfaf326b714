from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2

from earshot.spectrogram import spectrogram
from serving.engines.tensorflow_engine import TensorFlowEngine
from tests.serving.conftest import CLASS_NAMES, Served, predict_request, serve
from tests.serving.test_export import sample_segments

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = np.zeros((1, 128, 301, 3), np.uint8)
IMAGE_PROTO = tf.make_tensor_proto(IMAGE)


def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details() or ""


def test_both_signatures_answer_alike_and_as_the_network(served: Served, network: Any) -> None:
    segments = sample_segments()[:4]
    images = np.stack([spectrogram(segment) for segment in segments])

    from_image = served.predict(spectrogram=images)
    from_pcm = served.predict(signature="pcm", pcm=segments)

    scores = tf.make_ndarray(from_image.outputs["scores"])
    np.testing.assert_allclose(scores, network(images.astype(np.float32)).numpy(), atol=1e-5)
    np.testing.assert_allclose(tf.make_ndarray(from_pcm.outputs["scores"]), scores, atol=1e-3)
    classes = tf.make_ndarray(from_image.outputs["classes"])
    assert [[name.decode() for name in row] for row in classes] == [CLASS_NAMES] * 4


def test_an_answer_says_who_answered_and_holds_typed_fields(served: Served) -> None:
    answer = served.predict(spectrogram=IMAGE)
    assert answer.model_spec.name == "earshot"
    assert answer.model_spec.version.value == 1
    assert answer.model_spec.signature_name == "serving_default"
    assert len(answer.outputs["scores"].float_val) == 3
    assert not answer.outputs["scores"].tensor_content


def test_typed_fields_are_read_as_tensor_content_is(served: Served) -> None:
    images = np.stack([spectrogram(sample_segments()[0])])
    typed = tensor_pb2.TensorProto(dtype=types_pb2.DT_UINT8, int_val=images.ravel().tolist())
    typed.tensor_shape.CopyFrom(tf.make_tensor_proto(images).tensor_shape)
    assert served.predict(spectrogram=typed).outputs == served.predict(spectrogram=images).outputs


def test_output_filter_chooses_outputs(served: Served) -> None:
    request = predict_request(spectrogram=IMAGE)
    request.output_filter.append("classes")
    assert list(served.predictions.Predict(request).outputs) == ["classes"]


@pytest.mark.parametrize(
    ("outputs", "words"), [(["logits"], "logits"), (["scores", "scores"], "duplicate output tensor alias: scores")]
)
def test_a_wrong_output_filter_is_invalid(served: Served, outputs: list[str], words: str) -> None:
    request = predict_request(spectrogram=IMAGE)
    request.output_filter.extend(outputs)
    code, details = refused(lambda: served.predictions.Predict(request))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert words in details


def broken_tensor(**fields: Any) -> tensor_pb2.TensorProto:
    proto = tensor_pb2.TensorProto()
    proto.CopyFrom(IMAGE_PROTO)
    for name, value in fields.items():
        proto.ClearField(name)
        setattr(proto, name, value)
    return proto


def shaped(*sizes: int) -> tensor_pb2.TensorProto:
    proto = broken_tensor()
    del proto.tensor_shape.dim[:]
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "Missing but required: {spectrogram}"),
        ({"image": IMAGE}, "Sent extra: {image}. Missing but required: {spectrogram}"),
        ({"spectrogram": IMAGE, "more": IMAGE}, "Sent extra: {more}"),
        ({"spectrogram": IMAGE.astype(np.float32)}, "expected to be uint8 but float is provided"),
        ({"spectrogram": IMAGE[:, :64]}, "must have shape [?, 128, 301, 3], not [1, 64, 301, 3]"),
        ({"spectrogram": IMAGE[0]}, "must have shape"),
        ({"spectrogram": broken_tensor(tensor_content=b"short")}, "tensor_content has 5 bytes"),
        ({"spectrogram": broken_tensor(dtype=types_pb2.DT_VARIANT)}, "expected to be uint8 but variant is provided"),
        ({"spectrogram": shaped(-1, 128, 301, 3)}, "not fully known"),
        ({"spectrogram": shaped(1 << 60, 128, 301, 3)}, "needs more than"),
    ],
)
def test_wrong_inputs_are_invalid_and_named(served: Served, inputs: dict[str, Any], words: str) -> None:
    code, details = refused(lambda: served.predict(**inputs))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert words in details


def test_an_unknown_model_is_not_found(served: Served) -> None:
    code, details = refused(lambda: served.predict(name="nightingale", spectrogram=IMAGE))
    assert code is grpc.StatusCode.NOT_FOUND
    assert "Servable not found for request: Latest(nightingale)" in details


def test_an_unknown_version_is_not_found(served: Served) -> None:
    request = predict_request(spectrogram=IMAGE)
    request.model_spec.version.value = 7
    code, details = refused(lambda: served.predictions.Predict(request))
    assert code is grpc.StatusCode.NOT_FOUND
    assert "Specific(earshot, 7)" in details


def test_the_version_asked_for_is_served(served: Served) -> None:
    request = predict_request(spectrogram=IMAGE)
    request.model_spec.version.value = 1
    assert served.predictions.Predict(request).model_spec.version.value == 1


def test_a_version_label_is_not_recognised(served: Served) -> None:
    request = predict_request(spectrogram=IMAGE)
    request.model_spec.version_label = "canary"
    code, details = refused(lambda: served.predictions.Predict(request))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "canary" in details


def test_an_unknown_signature_is_a_failed_precondition(served: Served) -> None:
    code, details = refused(lambda: served.predict(signature="mp3", spectrogram=IMAGE))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert 'Serving signature key "mp3" not found' in details


@pytest.mark.parametrize("request_", [predict_pb2.PredictRequest(), predict_request(name="", spectrogram=IMAGE)])
def test_a_request_without_a_model_is_invalid(served: Served, request_: predict_pb2.PredictRequest) -> None:
    code, _ = refused(lambda: served.predictions.Predict(request_))
    assert code is grpc.StatusCode.INVALID_ARGUMENT


def test_a_deadline_that_passes_ends_the_call_and_not_the_server(served: Served) -> None:
    images = np.zeros((64, 128, 301, 3), np.uint8)
    code, _ = refused(lambda: served.predict(spectrogram=images, timeout=0.001))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert served.predict(spectrogram=IMAGE).model_spec.version.value == 1


def test_a_message_over_the_bound_is_refused(base_path: Path) -> None:
    with serve(base_path, max_message_mib=1) as server:
        server.wait_until_available(1)
        code, _ = refused(lambda: server.predict(spectrogram=np.repeat(IMAGE, 16, axis=0)))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert server.predict(spectrogram=IMAGE).model_spec.version.value == 1


def test_with_no_version_loaded_none_is_found_as_in_tensorflow_serving(tmp_path: Path) -> None:
    specific = predict_request(spectrogram=IMAGE)
    specific.model_spec.version.value = 7
    with serve(tmp_path) as server:
        code, details = refused(lambda: server.predict(spectrogram=IMAGE))
        assert code is grpc.StatusCode.NOT_FOUND
        assert details.startswith("Servable not found for request: Latest(earshot)")
        code, details = refused(lambda: server.predictions.Predict(specific))
        assert code is grpc.StatusCode.NOT_FOUND
        assert details.startswith("Servable not found for request: Specific(earshot, 7)")


def test_metadata_holds_the_signatures(served: Served) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "earshot"
    answer = served.predictions.GetModelMetadata(request)

    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures)
    assert answer.model_spec.version.value == 1
    assert set(signatures.signature_def) >= {"serving_default", "pcm"}
    default = signatures.signature_def["serving_default"]
    assert [dim.size for dim in default.inputs["spectrogram"].tensor_shape.dim] == [-1, 128, 301, 3]
    assert default.inputs["spectrogram"].dtype == types_pb2.DT_UINT8
    assert [dim.size for dim in signatures.signature_def["pcm"].inputs["pcm"].tensor_shape.dim] == [-1, 48_000]


@pytest.mark.parametrize("fields", [[], ["weights"], ["signature_def", "weights"]])
def test_metadata_of_no_or_unknown_fields_is_invalid(served: Served, fields: list[str]) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = "earshot"
    code, _ = refused(lambda: served.predictions.GetModelMetadata(request))
    assert code is grpc.StatusCode.INVALID_ARGUMENT


def test_metadata_of_an_unknown_model_is_not_found(served: Served) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "nightingale"
    code, _ = refused(lambda: served.predictions.GetModelMetadata(request))
    assert code is grpc.StatusCode.NOT_FOUND


def test_mutated_requests_get_an_error_or_an_answer_and_the_server_goes_on(served: Served) -> None:
    """Bytes of a right request, changed at random: never a hang, never a dead server."""
    raw: Any = served.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    right = predict_request(spectrogram=IMAGE).SerializeToString()
    rng = np.random.default_rng(1)
    codes = set()
    for _ in range(150):
        mutated = bytearray(right[: int(rng.integers(1, len(right) + 1))] if rng.random() < 0.3 else right)
        for _ in range(int(rng.integers(1, 4))):
            mutated[int(rng.integers(min(len(mutated), 120)))] = int(rng.integers(256))
        try:
            raw(bytes(mutated), timeout=30)
            codes.add(grpc.StatusCode.OK)
        except grpc.RpcError as error:
            codes.add(error.code())
    assert grpc.StatusCode.INVALID_ARGUMENT in codes
    assert not codes & {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
    assert served.predict(spectrogram=IMAGE).model_spec.version.value == 1


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (MemoryError("Unable to allocate 9 GiB"), grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
        (KeyError("scores"), grpc.StatusCode.INTERNAL, 500),
    ],
)
def test_what_nobody_foresaw_is_told_apart_by_whether_memory_was_short(
    served: Served, monkeypatch: pytest.MonkeyPatch, error: Exception, code: grpc.StatusCode, status: int
) -> None:
    def failing(*_: Any) -> None:
        raise error

    monkeypatch.setattr(TensorFlowEngine, "run", failing)
    assert refused(lambda: served.predict(spectrogram=IMAGE)) == (code, f"{type(error).__name__}: {error}")
    url = served.metrics_url.replace("/monitoring/prometheus/metrics", "/v1/models/earshot:predict")
    body = json.dumps({"instances": IMAGE.tolist()}).encode()
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url, body, timeout=30)
    assert caught.value.code == status
    assert json.load(caught.value) == {"error": f"{type(error).__name__}: {error}"}
