from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tensorflow as tf

from earshot.audio import windows
from earshot.spectrogram import SpectrogramParams, spectrogram
from serving.export import export_saved_model
from serving.failures import ExportError
from serving.layout import CARD_FILE, CLASSES_FILE, SPECTROGRAM_FILE, TRAINING_FILE
from serving.spectrogram_graph import spectrogram_graph
from tests.serving.conftest import CLASS_NAMES, THRESHOLDS, small_network

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLES = Path(__file__).parents[2] / "samples"


def sample_segments() -> NDArray[np.int16]:
    segments = []
    for path in sorted(SAMPLES.glob("*.wav")):
        with wave.open(str(path)) as clip:
            segments += windows(np.frombuffer(clip.readframes(clip.getnframes()), dtype="<i2"))
    return np.stack(segments)


def test_graph_makes_the_images_that_the_processors_make() -> None:
    segments = np.concatenate([sample_segments(), np.zeros((1, 48_000), np.int16)])
    segments[0, :100] = -32768
    from_graph = spectrogram_graph(tf.constant(segments)).numpy()
    expected = np.stack([spectrogram(segment) for segment in segments])
    assert from_graph.dtype == np.uint8
    difference = np.abs(from_graph.astype(int) - expected.astype(int))
    assert difference.max() <= 1
    assert np.mean(difference > 0) < 1e-3


def test_graph_follows_other_parameters() -> None:
    params = SpectrogramParams(window_samples=(512,), hop_samples=320, mels=40, range_db=50.0)
    segment = sample_segments()[1]
    from_graph = spectrogram_graph(tf.constant(segment[None]), params).numpy()[0]
    assert from_graph.shape == (40, 151, 1)
    assert np.abs(from_graph.astype(int) - spectrogram(segment, params).astype(int)).max() <= 1


def test_stock_tensorflow_loads_a_version_and_both_signatures_answer_as_the_network(
    exported: Path, network: Any
) -> None:
    loaded = tf.saved_model.load(str(exported))
    segments = sample_segments()[:3]
    images = np.stack([spectrogram(segment) for segment in segments])
    expected = network(images.astype(np.float32)).numpy()

    from_image = loaded.signatures["serving_default"](spectrogram=tf.constant(images))
    from_pcm = loaded.signatures["pcm"](pcm=tf.constant(segments))

    np.testing.assert_allclose(from_image["scores"].numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(from_pcm["scores"].numpy(), expected, atol=1e-3)
    for answer in (from_image, from_pcm):
        assert [[name.decode() for name in row] for row in answer["classes"].numpy()] == [CLASS_NAMES] * 3
        np.testing.assert_array_equal(answer["thresholds"].numpy(), np.array([THRESHOLDS] * 3, np.float32))


def test_a_version_brings_class_names_parameters_card_and_warm_up_requests(exported: Path) -> None:
    assert (exported / CLASSES_FILE).read_text(encoding="utf-8").splitlines() == CLASS_NAMES
    params = json.loads((exported / SPECTROGRAM_FILE).read_text(encoding="utf-8"))
    assert SpectrogramParams.from_json(params) == SpectrogramParams()
    assert (exported / CARD_FILE).read_text(encoding="utf-8") == "# A card\n"
    assert (exported / "assets.extra" / "tf_serving_warmup_requests").stat().st_size > 0


def test_further_files_go_with_a_version_and_none_takes_the_place_of_its_own(network: Any, tmp_path: Path) -> None:
    version = export_saved_model(network, CLASS_NAMES, tmp_path / "1", extra={TRAINING_FILE: '{"seed": 0}\n'})
    assert (version / TRAINING_FILE).read_text(encoding="utf-8") == '{"seed": 0}\n'
    for name in (CLASSES_FILE, "saved_model.pb", "assets.extra/../card.md", "/etc/passwd"):
        with pytest.raises(ExportError, match="no room for a further file"):
            export_saved_model(network, CLASS_NAMES, tmp_path / "2", extra={name: ""})
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_a_version_runs_on_stock_operations_only(exported: Path) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((exported / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    used = {node.op for function in graph.library.function for node in function.node_def}
    known = {name for name in dir(tf.raw_ops) if not name.startswith("_")}
    assert used <= known


def test_an_existing_version_is_refused_and_left_as_it_was(exported: Path, network: Any) -> None:
    before = (exported / "saved_model.pb").stat().st_mtime_ns
    with pytest.raises(ExportError, match="never overwritten"):
        export_saved_model(network, CLASS_NAMES, exported)
    assert (exported / "saved_model.pb").stat().st_mtime_ns == before


@pytest.mark.parametrize("thresholds", [[0.5], [0.1, 0.2, 1.5], [0.1, 0.2, float("nan")]])
def test_thresholds_that_do_not_fit_are_refused(network: Any, tmp_path: Path, thresholds: list[float]) -> None:
    with pytest.raises(ExportError, match="3 classes need as many thresholds from 0 to 1"):
        export_saved_model(network, CLASS_NAMES, tmp_path / "2", thresholds=thresholds)


def test_a_failed_export_leaves_nothing_behind(network: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        export_saved_model(network, CLASS_NAMES, tmp_path / "2", card=b"no text")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("folder", "names", "params", "message"),
    [
        ("latest", CLASS_NAMES, SpectrogramParams(), "must be a number"),
        ("1", ["a", "b"], SpectrogramParams(), "for 2 class names"),
        ("1", ["a", "a", "b"], SpectrogramParams(), "differ"),
        ("1", ["a", "b\nc", "d"], SpectrogramParams(), "one line"),
        ("1", CLASS_NAMES, SpectrogramParams(mels=64), "takes images"),
    ],
)
def test_an_export_that_would_not_serve_is_refused(
    tmp_path: Path, folder: str, names: list[str], params: SpectrogramParams, message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        export_saved_model(small_network(), names, tmp_path / folder, params)
