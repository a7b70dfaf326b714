"""What each part imports: an agent on a small machine has no Faust, a worker no TensorFlow, and help comes at once."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.processes import ROOT

if TYPE_CHECKING:
    from pathlib import Path

LIBRARIES = {
    *("aiokafka", "faust", "grpc", "kafka", "keras", "librosa", "numpy", "pyaudio", "scipy", "sklearn", "soundfile"),
    *("matplotlib", "soxr", "tensorflow", "tensorflow_serving", "webrtcvad"),
}
AGENT = {"kafka", "numpy", "pyaudio", "soundfile", "soxr", "webrtcvad"}
WORKER = {"aiokafka", "faust", "grpc", "kafka", "numpy"}
SERVER = {"grpc", "numpy"}
JUDGE = {"grpc", "numpy", "soundfile", "soxr"}
RUN = "import earshot.cli, contextlib\nwith contextlib.suppress(SystemExit): earshot.cli.main({})"

IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
names = [module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
assert len(names) > 5, names
"""


def python(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def brought_in_by(code: str) -> set[str]:
    """Which of the libraries a fresh Python has imported after `code`."""
    modules = python("-c", f"{code}\nimport sys\nprint(*(name.partition('.')[0] for name in sys.modules))")
    return LIBRARIES & set(modules.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import producers, processors, serving, training, local, earshot", set()),
        ("import earshot.admin, earshot.command, earshot.tail, earshot.topics", set()),
        ("import processors.settings, serving.settings, training.settings, local.settings", set()),
        ("import earshot.cli", set()),
        ("import serving.models, serving.catalogue, serving.inspection", set()),
        ("import training.release.promotion", JUDGE),
        ("import serving.modelserver.server, serving.run, serving.starter, serving.engines.openvino_engine", SERVER),
        ("import producers.agent, producers.command, producers.publisher, producers.sources", AGENT),
        ("import processors.app, processors.worker, processors.labeller", WORKER),
    ],
)
def test_an_import_brings_in_no_more_than_its_part_needs(code: str, allowed: set[str]) -> None:
    assert brought_in_by(code) <= allowed


@pytest.mark.parametrize("command", ["agent", "processor", "serve", "retrain", "evaluate", "demo", "models"])
def test_help_brings_in_no_library_of_any_part(command: str) -> None:
    assert brought_in_by(RUN.format([command, "--help"])) == set()


@pytest.mark.parametrize("command", ["list", "rollback"])
def test_versions_are_listed_and_rolled_back_without_any_library(command: str, tmp_path: Path) -> None:
    for number in ("1", "2"):
        (tmp_path / number / "variables").mkdir(parents=True)
        for name in ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"):
            (tmp_path / number / name).write_bytes(b"something")
    assert brought_in_by(RUN.format(["models", command, "--model-base-path", str(tmp_path)])) == set()
    assert (tmp_path / "3").is_dir() == (command == "rollback")


@pytest.mark.parametrize("code", ["import serving.network", "import training.finetuning.learner"])
def test_keras_computes_with_tensorflow_whatever_it_does_elsewhere(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert python("-c", f"{code}, keras\nprint(keras.backend.backend())").splitlines()[-1] == "tensorflow"


def test_the_check_sees_what_is_imported() -> None:
    assert brought_in_by("import processors.app") >= {"faust", "aiokafka"}


@pytest.mark.parametrize("package", ["earshot", "producers", "processors", "serving", "training", "local"])
def test_every_module_imports(package: str) -> None:
    python("-c", IMPORT_ALL, package)
