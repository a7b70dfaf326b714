from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest

from serving.compact import load_compact
from serving.network import BLOCKS, Architecture, Head, blocks_needed, creation_order
from serving.starter import STARTER, STARTER_TRAINING
from tests.training.conftest import write_taught
from training.weights import (
    WeightsError,
    WeightsOutOfReach,
    averaged,
    calibrating_weights,
    load_averaged,
    load_weights,
    save_weights,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_values_are_minimum_plus_step_times_level(weights_file: Path, arrays: dict[str, Any]) -> None:
    weights = load_weights(str(weights_file))
    assert len(weights.blocks) == BLOCKS
    assert (weights.input_range, weights.name) == ((0.0, 1.0), "random_u8.npz")
    for number, block in ((1, weights.blocks[0]), (94, weights.blocks[93])):
        minimum, step = arrays[f"conv2d_{number}/kernel:ms"]
        np.testing.assert_allclose(block.kernel, arrays[f"conv2d_{number}/kernel:q"] * step + minimum, atol=1e-6)
        minimum, step = arrays[f"batch_normalization_{number}/moving_variance:ms"]
        levels = arrays[f"batch_normalization_{number}/moving_variance:q"]
        np.testing.assert_allclose(block.variance, levels * step + minimum, atol=1e-6)


def test_one_other_value_is_another_digest_and_another_name_is_not(
    weights_file: Path, arrays: dict[str, Any], tmp_path: Path
) -> None:
    digest = load_weights(str(weights_file)).digest
    (tmp_path / "copy.npz").write_bytes(weights_file.read_bytes())
    assert load_weights(str(tmp_path / "copy.npz")).digest == digest
    other = arrays["batch_normalization_50/beta:q"].copy()
    other[3] ^= 1
    np.savez(tmp_path / "other.npz", **{**arrays, "batch_normalization_50/beta:q": other})
    assert load_weights(str(tmp_path / "other.npz")).digest != digest


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "other content", "one block short"])
def test_a_file_that_holds_no_whole_network_is_named(
    weights_file: Path, arrays: dict[str, Any], tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "bad.npz"
    if damage == "other content":
        np.savez(path, something=np.zeros(3))
    elif damage == "one block short":
        np.savez(path, **{name: array for name, array in arrays.items() if not name.startswith("conv2d_94/")})
    elif damage != "missing":
        path.write_bytes(weights_file.read_bytes()[: 0 if damage == "empty" else 1_000_000])
    told = r"bad\.npz is no file" if damage == "missing" else r"bad\.npz holds no Inception V3 in 8 bit form"
    with pytest.raises(WeightsError, match=told):
        load_weights(str(path))


def test_keras_own_file_has_the_weights_that_keras_would_download(tmp_path: Path) -> None:
    network = keras.applications.InceptionV3(include_top=False, weights=None)
    path = tmp_path / "inception_v3_notop.h5"
    network.save(path)
    weights = load_weights(str(path))
    assert weights.input_range == (-1.0, 1.0)
    convolutions = creation_order([layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)])
    for layer, block in zip(convolutions, weights.blocks, strict=True):
        np.testing.assert_array_equal(layer.get_weights()[0], block.kernel)

    path.write_bytes(path.read_bytes()[:1_000_000])
    with pytest.raises(WeightsError, match=r"notop\.h5 holds no Inception V3 of Keras's"):
        load_weights(str(path))


@pytest.mark.parametrize(
    ("name", "wrong", "words"),
    [
        ("conv2d_5/kernel:ms", np.array([np.nan, 1.0]), "convolution 5 has values that are no numbers"),
        ("batch_normalization_6/beta:q", np.zeros(3, np.uint8), r"the beta of convolution 6 has the shape \(3,\), not"),
    ],
)
def test_weights_that_no_network_could_have_are_refused_when_they_are_read(
    arrays: dict[str, Any], tmp_path: Path, name: str, wrong: Any, words: str
) -> None:
    np.savez(tmp_path / "wrong.npz", **{**arrays, name: wrong})
    with pytest.raises(WeightsError, match=rf"^wrong\.npz: {words}"):
        load_weights(str(tmp_path / "wrong.npz"))


def test_taught_weights_that_are_no_numbers_are_refused(weights_file: Path, tmp_path: Path) -> None:
    write_taught(weights_file, tmp_path / "taught.npz", [], times=np.nan)
    with pytest.raises(WeightsError, match=r"^taught\.npz: convolution 1 has values that are no numbers"):
        load_weights(str(tmp_path / "taught.npz"))


@pytest.mark.parametrize(
    ("fault", "later"),
    [(Exception("URL fetch failure on inception_v3"), True), (OSError(28, "No space left on device"), False)],
)
def test_imagenet_that_cannot_be_downloaded_says_to_name_a_file(
    monkeypatch: pytest.MonkeyPatch, fault: Exception, later: bool
) -> None:
    """Keras's download is replaced: whether the network is there must not decide about the test."""

    def unreachable(**_: Any) -> Any:
        raise fault

    monkeypatch.setattr(keras.applications, "InceptionV3", unreachable)
    with pytest.raises(WeightsError, match=rf"could not download .*{fault.args[-1]}.*name its file") as raised:
        load_weights("imagenet")
    assert isinstance(raised.value, WeightsOutOfReach) == later


def test_the_starter_models_weights_come_with_the_network_that_they_are_of() -> None:
    model, weights = load_compact(STARTER), load_weights("starter")
    assert (weights.architecture, weights.name) == (model.architecture, "starter")
    record = json.loads(STARTER_TRAINING.read_text())
    assert record["weights"]["digest"] == weights.digest  # it is this model's
    assert weights.heard == frozenset(record["heard"])
    assert {one for one in record["recordings"] if one.startswith("freesound:")} <= weights.heard
    assert [word in weights.notes[0] for word in ("UrbanSound8K", "CC BY-NC 3.0")] == [True] * 2
    np.testing.assert_array_equal(weights.blocks[3].kernel, model.blocks[3].kernel)


def test_what_was_taught_is_read_back_with_its_network_and_what_is_cut_is_named(
    weights_file: Path, tmp_path: Path
) -> None:
    architecture = Architecture(("mixed1",), 2, (-1.0, 1.0), (1, 3))
    blocks = load_weights(str(weights_file)).blocks[: blocks_needed(architecture.taps)]
    kernel = np.arange(8, dtype=np.float32).reshape(4, 2)
    readout = Head(((kernel, np.array([0.5, -1], np.float32)),))
    save_weights(
        blocks,
        architecture,
        readout,
        tmp_path / "sound.npz",
        {"freesound:7", "sha256:0123456789abcdef"},
        ["A licence."],
    )
    weights = load_weights(str(tmp_path / "sound.npz"))
    assert weights.heard == frozenset({"freesound:7", "sha256:0123456789abcdef"})
    assert weights.notes == ("A licence.",)
    assert (weights.architecture, weights.input_range, len(weights.blocks)) == (architecture, (-1.0, 1.0), len(blocks))
    step = float(np.ptp(blocks[2].kernel)) / 255
    np.testing.assert_allclose(weights.blocks[2].kernel, blocks[2].kernel, atol=step)
    assert weights.readout
    np.testing.assert_array_equal(weights.readout.layers[0][0], kernel)
    np.testing.assert_array_equal(weights.readout.layers[0][1], [0.5, -1])
    save_weights(blocks[:-1], architecture, readout, tmp_path / "short.npz", None)
    with pytest.raises(WeightsError, match=r"short\.npz"):
        load_weights(str(tmp_path / "short.npz"))


def test_what_calibrates_is_of_the_same_network_and_says_what_it_has_heard(weights_file: Path, tmp_path: Path) -> None:
    readout = Head(((np.zeros((4, 2), np.float32), np.zeros(2, np.float32)),))
    cases: list[tuple[str, int, list[str] | None]] = [
        ("main", 1, ["a"]),
        ("part", 1, ["b"]),
        ("other", 2, ["b"]),
        ("silent", 1, None),
    ]
    for name, bands, heard in cases:
        architecture = Architecture(("mixed0",), bands)
        blocks = load_weights(str(weights_file)).blocks[: blocks_needed(architecture.taps)]
        save_weights(blocks, architecture, readout, tmp_path / f"{name}.npz", heard)
    main = load_weights(str(tmp_path / "main.npz"))
    assert [one.heard for one in calibrating_weights([str(tmp_path / "part.npz")], main)] == [frozenset("b")]
    assert calibrating_weights([], main) == []
    again = str(tmp_path / "again.npz")
    shutil.copy(tmp_path / "part.npz", again)
    assert [one.name for one in calibrating_weights([str(tmp_path / "part.npz"), again], main)] == ["again.npz"]
    with pytest.raises(WeightsError, match=r"other\.npz is of another network than main\.npz"):
        calibrating_weights([str(tmp_path / "other.npz")], main)
    with pytest.raises(WeightsError, match=r"silent\.npz does not say what it has heard"):
        calibrating_weights([str(tmp_path / "silent.npz")], main)


def test_weights_that_are_joined_are_networks_side_by_side(weights_file: Path, tmp_path: Path) -> None:
    cases: list[tuple[str, int, list[str] | None, float]] = [
        ("a", 1, ["x"], 1.0),
        ("b", 1, ["y"], 3.0),
        ("other", 2, ["x"], 1.0),
        ("silent", 1, None, 2.0),
    ]
    for name, bands, heard, says in cases:
        architecture = Architecture(("mixed0",), bands)
        write_taught(weights_file, tmp_path / f"{name}.npz", heard, architecture, says, notes=["A licence."])
    a, b, other, silent = (str(tmp_path / f"{name}.npz") for name, *_ in cases)
    first, second, pair = (load_weights(name) for name in (a, b, f"{a}+{b}"))
    assert (pair.name, pair.heard, pair.notes) == ("a.npz+b.npz", frozenset({"x", "y"}), ("A licence.",))
    assert pair.architecture == Architecture(("mixed0",), 1, inceptions=2)
    assert len({one.digest for one in (pair, first, second, load_weights(f"{b}+{a}"))}) == 4
    for one, before in zip(pair.blocks, (*first.blocks, *second.blocks), strict=True):
        np.testing.assert_array_equal(one.kernel, before.kernel)
    assert first.architecture
    assert pair.readout
    kernel, bias = pair.readout.layers[0]
    said = np.repeat([[0.5], [1.5]], first.architecture.widths[0], axis=0)
    np.testing.assert_array_equal(kernel, said * np.ones((1, 3)))
    np.testing.assert_array_equal(bias, [2.0] * 3)
    assert load_weights(f"{a}+{silent}").heard is None
    with pytest.raises(WeightsError, match=r"other\.npz is of another network than .*a\.npz; only what was taught"):
        load_weights(f"{a}+{other}")
    with pytest.raises(WeightsError, match=f"{weights_file.name} was not taught for sound"):
        load_weights(f"{weights_file}+{a}")
    for name in (str(weights_file), "imagenet"):
        with pytest.raises(WeightsError, match=f"{name} was not taught for sound"):
            load_weights(f"{a}+{name}")
    with pytest.raises(WeightsError, match=r"none\.npz is no file"):
        load_weights(f"{a}+none.npz")
    with pytest.raises(WeightsError, match=r"no weights are named after the last \+"):
        load_weights(f"{a}+")
    with pytest.raises(WeightsError, match=r"a\.npz has the same weights as another beside it"):
        load_weights(f"{a}+{a}")


def test_what_the_teachers_of_networks_side_by_side_would_say_is_known_where_it_can_be_averaged(
    weights_file: Path, tmp_path: Path
) -> None:
    for number, outputs in enumerate((3, 3, 4), start=1):
        write_taught(weights_file, tmp_path / f"{number}.npz", [], times=number, outputs=outputs)
    one, other, of_another_teacher = (str(tmp_path / f"{number}.npz") for number in (1, 2, 3))
    assert load_weights(f"{one}+{other}").readout
    assert load_weights(f"{one}+{of_another_teacher}").readout is None
    weights = load_weights("starter")  # it does not say what its teacher would
    assert weights.architecture
    kernel = np.zeros((weights.architecture.widths[0], 3), np.float32)
    blocks = tuple(replace(block, beta=block.beta + 1) for block in weights.blocks)
    save_weights(blocks, weights.architecture, Head(((kernel, np.zeros(3, np.float32)),)), tmp_path / "taught.npz", [])
    beside = load_weights(f"starter+{tmp_path / 'taught.npz'}")
    assert (beside.name, beside.readout, beside.heard) == ("starter+taught.npz", None, weights.heard)


def test_weights_that_were_taught_on_from_the_same_ones_are_averaged(weights_file: Path, tmp_path: Path) -> None:
    cases: list[tuple[str, int, list[str] | None, float, int]] = [
        ("a", 1, ["x"], 1.0, 3),
        ("b", 1, ["y"], 3.0, 3),
        ("silent", 1, None, 5.0, 3),
        ("of_another_teacher", 1, [], 2.0, 4),
        ("other", 2, ["x"], 1.0, 3),
    ]
    for name, bands, heard, says, outputs in cases:
        architecture = Architecture(("mixed0",), bands)
        write_taught(weights_file, tmp_path / f"{name}.npz", heard, architecture, says, outputs, notes=["A licence."])
    a, b, silent, of_another_teacher, other = (load_weights(str(tmp_path / f"{name}.npz")) for name, *_ in cases)
    mean = averaged([a, b])
    assert (mean.name, mean.heard, mean.notes) == ("a.npz,b.npz", frozenset({"x", "y"}), ("A licence.",))
    assert (mean.architecture, mean.input_range) == (a.architecture, a.input_range)
    for one, *both in zip(mean.blocks, a.blocks, b.blocks, strict=True):
        for name in ("kernel", "beta", "mean", "variance"):
            values = getattr(one, name)
            assert values.dtype == np.float32
            np.testing.assert_allclose(values, (getattr(both[0], name) + getattr(both[1], name)) / 2, rtol=1e-6)
    assert mean.readout
    assert a.readout
    assert b.readout
    for number in (0, 1):
        layer, first, second = (one.readout.layers[0][number] for one in (mean, a, b) if one.readout)
        np.testing.assert_allclose(layer, (first + second) / 2)
    assert len({mean.digest, a.digest, b.digest}) == 3
    assert averaged([a]) is a
    shutil.copy(tmp_path / "a.npz", tmp_path / "a,b.npz")
    assert load_averaged(str(tmp_path / "a,b.npz")).digest == a.digest
    assert load_averaged(f"{tmp_path}/a,b.npz,{tmp_path}/b.npz").digest == mean.digest
    assert averaged([a, silent]).heard is None
    assert averaged([a, of_another_teacher]).readout is None
    with pytest.raises(WeightsError, match=r"other\.npz was not taught for sound in the network of a\.npz"):
        averaged([a, other])
    with pytest.raises(WeightsError, match=f"{weights_file.name} was not taught for sound"):
        averaged([load_weights(str(weights_file)), a])
    with pytest.raises(WeightsError, match=r"a\.npz has the same weights as another"):
        averaged([a, b, a])


def test_the_name_of_one_file_may_have_the_sign_that_joins_several(weights_file: Path, tmp_path: Path) -> None:
    write_taught(weights_file, tmp_path / "a+b.npz", [])
    name = str(tmp_path / "a+b.npz")
    assert load_weights(name).name == "a+b.npz"
    write_taught(weights_file, tmp_path / "c.npz", [], times=2.0)
    (tmp_path / "c++").mkdir()
    shutil.copy(tmp_path / "c.npz", tmp_path / "c++")
    both = f"{tmp_path}/c++/c.npz+{name}"
    assert load_weights(both).name == "c.npz+a+b.npz"
    with pytest.raises(WeightsError, match=rf"{re.escape(str(tmp_path))}/c\+\+/d\.npz is no file"):
        load_weights(f"{tmp_path}/c++/d.npz")


def test_a_starter_model_that_is_not_whole_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "starter.npz").write_bytes(STARTER.read_bytes()[:1000])
    monkeypatch.setattr("training.weights.STARTER", tmp_path / "starter.npz")
    with pytest.raises(WeightsError, match=r"starter\.npz is not a whole model file"):
        load_weights("starter")
    monkeypatch.undo()
    monkeypatch.setattr("training.weights.STARTER_TRAINING", tmp_path / "training.json")
    with pytest.raises(WeightsError, match=r"training\.json is not there or not whole"):
        load_weights("starter")
