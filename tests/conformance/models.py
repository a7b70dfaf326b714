"""Small SavedModels with every kind of signature, of TensorFlow 1 and 2, and the configuration that serves them.

Run: python -m tests.conformance.models DIR
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

v1 = tf.compat.v1

CONFIG = """\
model_config_list {{
  config {{
    name: "half"
    base_path: "{folder}/half"
    model_platform: "tensorflow"
    model_version_policy {{ specific {{ versions: 2 versions: 3 }} }}
    version_labels {{ key: "stable" value: 2 }}
    version_labels {{ key: "canary" value: 3 }}
  }}
  config {{ name: "mixed" base_path: "{folder}/mixed" model_platform: "tensorflow" }}
  config {{ name: "doubled" base_path: "{folder}/doubled" model_platform: "tensorflow" }}
  config {{ name: "changing" base_path: "{folder}/changing" model_platform: "tensorflow" }}
}}
"""
MONITORING = """\
prometheus_config {
  enable: true
  path: "/monitoring/prometheus/metrics"
}
"""


def write_models(folder: Path) -> Path:
    """Write all models, `models.config` and `monitoring.config` below `folder`; returns the path of the former.

    `half` version 2 answers x / 2 + 2, version 3 x / 2 + 3: as TF1 wrote models, with a session. `mixed` and `doubled`
    are TF2's; the latter takes examples. `changing` is as `half`, and begins with version 1: tests give it others.
    """
    for version in (2, 3):
        write_half_plus(folder / "half" / str(version), float(version))
    write_mixed(folder / "mixed" / "1")
    write_doubled(folder / "doubled" / "1")
    write_half_plus(folder / "changing" / "1", 1.0)
    (folder / "monitoring.config").write_text(MONITORING)
    config = folder / "models.config"
    config.write_text(CONFIG.format(folder=folder.absolute()))
    return config


def write_half_plus(path: Path, plus: float) -> None:
    """A TF1 SavedModel of y = x / 2 + `plus`, and y2 of a second output, through predict, classify and regress."""
    with tf.Graph().as_default(), v1.Session() as session:
        half = v1.get_variable("half", initializer=0.5)
        added = v1.get_variable("added", initializer=plus)
        serialized = v1.placeholder(tf.string, [None], name="tf_example")
        features = v1.io.parse_example(serialized, {"x": tf.io.FixedLenFeature([1], tf.float32)})
        x = tf.identity(features["x"], name="x")
        y = tf.add(tf.multiply(x, half), added, name="y")
        y2 = tf.add(y, 10.0, name="y2")
        labels = tf.strings.as_string(y, precision=1, name="labels")
        plain_x = v1.placeholder(tf.float32, None, name="plain_x")
        plain_y = tf.add(tf.multiply(plain_x, half), added, name="plain_y")
        doubled = tf.multiply(plain_y, 2.0, name="doubled")
        session.run(v1.global_variables_initializer())

        def info(**tensors: Any) -> dict[str, Any]:
            return {name: v1.saved_model.build_tensor_info(tensor) for name, tensor in tensors.items()}

        def signature(method: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> Any:
            return v1.saved_model.build_signature_def(inputs, outputs, f"tensorflow/serving/{method}")

        examples = info(inputs=serialized)
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {
                "serving_default": signature("predict", info(x=plain_x), info(y=plain_y)),
                "column": signature("predict", info(x=x), info(y=y)),
                "two": signature("predict", info(x=plain_x), info(y=plain_y, doubled=doubled)),
                "classify": signature("classify", examples, info(classes=labels, scores=y)),
                "scores": signature("classify", examples, info(scores=y)),
                "regress": signature("regress", examples, info(outputs=y)),
                "regress2": signature("regress", examples, info(outputs=y2)),
                "other_input": signature("regress", info(inputs=plain_x), info(outputs=plain_y)),
            },
        )
        builder.save()


class _Mixed(tf.Module):  # type: ignore[misc]
    """Inputs and outputs of several types, of one signature."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = tf.Variable(2.0)

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[
            tf.TensorSpec([None, 2], tf.float32, name="floats"),
            tf.TensorSpec([None], tf.int64, name="ints"),
            tf.TensorSpec([None], tf.string, name="text"),
        ]
    )
    def __call__(self, floats: Any, ints: Any, text: Any) -> dict[str, Any]:
        return {
            "scaled": floats * self.scale,
            "next": ints + 1,
            "shout": tf.strings.upper(text),
            "raw_bytes": text,
            "even": ints % 2 == 0,
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.uint8, name="values")])  # type: ignore[untyped-decorator]
    def inverted(self, values: Any) -> dict[str, Any]:
        return {"inverted": 255 - values}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.uint64, name="values")])  # type: ignore[untyped-decorator]
    def same(self, values: Any) -> dict[str, Any]:
        return {"same": tf.identity(values)}

    @tf.function(input_signature=[])  # type: ignore[untyped-decorator]
    def seven(self) -> dict[str, Any]:
        return {"seven": tf.constant(7)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="value")])  # type: ignore[untyped-decorator]
    def root(self, value: Any) -> dict[str, Any]:
        return {"root": tf.sqrt(value)}


def write_mixed(path: Path) -> None:
    """A TF2 SavedModel with a variable, and several inputs and outputs."""
    module = _Mixed()
    signatures = {
        "serving_default": module.__call__,
        "inverted": module.inverted,
        "root": module.root,
        "same": module.same,
        "seven": module.seven,
    }
    tf.saved_model.save(module, str(path), signatures=signatures)


class _Doubled(tf.Module):  # type: ignore[misc]
    """Examples in, as TF2 writes it: each signature says that it is for Predict."""

    def x(self, serialized: Any) -> Any:
        return tf.io.parse_example(serialized, {"x": tf.io.FixedLenFeature([1], tf.float32)})["x"]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])  # type: ignore[untyped-decorator]
    def __call__(self, inputs: Any) -> dict[str, Any]:
        return {"outputs": 2.0 * self.x(inputs)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])  # type: ignore[untyped-decorator]
    def scores(self, inputs: Any) -> dict[str, Any]:
        return {"scores": tf.concat([self.x(inputs), 2.0 * self.x(inputs)], axis=1)}


def write_doubled(path: Path) -> None:
    """A TF2 SavedModel that regresses and classifies."""
    module = _Doubled()
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.__call__, "scores": module.scores})


if __name__ == "__main__":
    print(write_models(Path(sys.argv[1])))
