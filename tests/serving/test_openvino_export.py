from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tensorflow as tf

from serving.engines.conversion import Unsupported, convert
from serving.engines.openvino_engine import OpenVinoEngine, Precision
from serving.engines.openvino_export import _load, _Signature, _takes, export
from serving.engines.tensorflow_engine import TensorFlowEngine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

IMAGE = tf.TensorSpec([None, 128, 301, 3], tf.uint8, name="spectrogram")
Answer = dict[str, tf.Tensor]


def save(folder: Path, *functions: Callable[[tf.Tensor], Answer], spec: tf.TensorSpec = IMAGE) -> Path:
    """A SavedModel of some signatures that take images."""
    module = tf.Module()
    module.weights = [tf.Variable(1.0)]
    names = ("serving_default", "second")
    signatures = {
        name: tf.function(each, input_signature=[spec], autograph=False)
        for name, each in zip(names, functions, strict=False)
    }
    tf.saved_model.save(module, str(folder), signatures)
    return folder


def loudness(image: tf.Tensor) -> tf.Tensor:
    """float32 [batch, 1], 0 to 1."""
    return tf.reduce_mean(tf.cast(image, tf.float32), axis=[1, 2, 3])[:, tf.newaxis] / 255.0


def scores(image: tf.Tensor) -> tf.Tensor:
    return tf.concat([loudness(image), 1.0 - loudness(image)], axis=1)


def each(image: tf.Tensor, row: Any) -> tf.Tensor:
    """The same row for every image."""
    return tf.tile(tf.constant(row)[tf.newaxis], [tf.shape(scores(image))[0], 1])


DEPENDENT: dict[str, tuple[Callable[[tf.Tensor], tf.Tensor], bool]] = {
    "a row for each image": (lambda image: each(image, ["a", "b"]), False),
    "zeros in its shape": (lambda image: tf.zeros_like(image, tf.float32), False),
    "one for each image by its size": (lambda image: tf.fill([tf.size(image) // (128 * 301 * 3), 1], 1.0), False),
    "scores": (scores, True),
    "seldom true": (lambda image: loudness(image) > 0.99, True),
    "how many pixels are white": (lambda image: tf.fill([1], tf.shape(tf.where(image > 254))[0]), True),
    "one of two constants": (
        lambda image: tf.cond(tf.reduce_max(image) > 254, lambda: tf.constant(["a"]), lambda: tf.constant(["b"])),
        True,
    ),
    "random": (lambda image: tf.random.uniform([tf.shape(image)[0], 1]), True),
}


@pytest.mark.parametrize("what", DEPENDENT)
def test_what_depends_on_the_values_of_the_input_is_read_off_the_graph(tmp_path: Path, what: str) -> None:
    function, dependent = DEPENDENT[what]
    signature = _load(save(tmp_path / "1", lambda image: {"y": function(image)}))["serving_default"]
    frozen = _Signature(_takes("serving_default", signature), signature).freeze()
    assert frozen.dependent() == ({"y"} if dependent else set())


def test_an_output_that_is_alike_for_all_sounds_asked_is_computed_where_it_depends_on_them(tmp_path: Path) -> None:
    def answer(image: tf.Tensor) -> Answer:
        loud = tf.cast(loudness(image) > 0.99, tf.float32)
        return {"scores": scores(image), "loud": loud, "classes": each(image, ["a", "b"])}

    folder = save(tmp_path / "1", answer)
    converted = convert(folder, tmp_path / "cache")
    assert (converted.computed, list(converted.repeated)) == (["loud", "scores"], ["classes"])
    images = np.stack([np.full((128, 301, 3), value, np.uint8) for value in (0, 255)])
    asked = ("serving_default", {"spectrogram": images}, ["classes", "loud", "scores"])
    openvino, own = OpenVinoEngine(folder, Precision.F32, tmp_path / "cache"), TensorFlowEngine(folder)
    answers, wanted = openvino.run(*asked), own.run(*asked)
    assert wanted["loud"].tolist() == [[0.0], [1.0]]
    np.testing.assert_array_equal(answers["loud"], wanted["loud"])
    np.testing.assert_array_equal(answers["classes"], wanted["classes"])


REFUSED: dict[str, tuple[Callable[[tf.Tensor], Answer], str]] = {
    "a comparison": (lambda image: {"loud": loudness(image) > 0.99}, "'loud' depends on the input and is bool"),
    "a string": (
        lambda image: {"named": tf.where(loudness(image) > 0.99, "loud", "quiet")},
        "'named' depends on the input and is string",
    ),
    "the mean of a batch": (
        lambda image: {"least": loudness(image) - tf.reduce_mean(loudness(image))},
        "'least' has not one row for each image",
    ),
    "the size of a batch": (
        lambda image: {"size": each(image, [1.0]) * tf.cast(tf.shape(image)[0], tf.float32)},
        "'size' has not one row for each image",
    ),
    "a number for all": (lambda image: {"all": tf.reduce_mean(scores(image))}, "'all' has not one row for each image"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_outputs_that_cannot_be_converted_are_named(tmp_path: Path, what: str) -> None:
    function, said = REFUSED[what]
    folder = save(tmp_path / "1", lambda image: {"scores": scores(image), **function(image)})
    with pytest.raises(Unsupported, match=said):
        export(folder, tmp_path)


def test_a_model_that_answers_nothing_of_its_input_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "1", lambda image: {"classes": each(image, ["a", "b"])})
    with pytest.raises(Unsupported, match="none of its outputs depends"):
        export(folder, tmp_path)


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (lambda image: {"scores": 1 - scores(image)}, "answers are .* apart"),
        (lambda image: {"scores": each(image, [0.5, 0.5])}, "different scores"),
        (lambda image: {"others": scores(image)}, "different outputs"),
    ],
)
def test_signatures_that_do_not_answer_alike_are_refused(
    tmp_path: Path, second: Callable[[tf.Tensor], Answer], said: str
) -> None:
    folder = save(tmp_path / "1", lambda image: {"scores": scores(image)}, second)
    with pytest.raises(Unsupported, match=said):
        export(folder, tmp_path)


def test_images_of_any_size_are_refused(tmp_path: Path) -> None:
    spec = tf.TensorSpec([None, None, None, 3], tf.uint8, name="spectrogram")
    folder = save(tmp_path / "1", lambda image: {"scores": scores(image)}, spec=spec)
    with pytest.raises(Unsupported, match="spectrograms of one size"):
        export(folder, tmp_path)
