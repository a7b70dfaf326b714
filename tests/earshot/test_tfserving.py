"""The light stubs hold TensorFlow Serving's messages."""

from __future__ import annotations

import subprocess
import sys

from google.protobuf import descriptor_pb2
from tensorflow_serving.apis import predict_pb2

from earshot.tfserving import messages
from earshot.tfserving.regenerate import descriptor_set


def test_the_committed_descriptors_are_those_of_the_installed_package() -> None:
    committed = descriptor_pb2.FileDescriptorSet.FromString(messages.DESCRIPTORS_PATH.read_bytes())
    installed = descriptor_pb2.FileDescriptorSet.FromString(descriptor_set())
    assert committed == installed, "run `python -m earshot.tfserving.regenerate`"


def test_a_light_message_is_read_by_the_real_one_and_back() -> None:
    light = messages.PredictRequest()
    light.model_spec.name = "earshot"
    light.inputs["spectrogram"].dtype = messages.DT_UINT8
    light.inputs["spectrogram"].tensor_content = b"\x01\x02"
    real = predict_pb2.PredictRequest.FromString(light.SerializeToString())
    assert real.model_spec.name == "earshot"
    assert real.inputs["spectrogram"].tensor_content == b"\x01\x02"
    assert messages.PredictRequest.FromString(real.SerializeToString()) == light


def test_a_worker_imports_without_tensorflow() -> None:
    program = (
        "import sys, processors.app, processors.labeller, processors.worker\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "faust" in modules
    assert not {"tensorflow", "tensorflow_serving", "keras", "librosa"} & set(modules)
