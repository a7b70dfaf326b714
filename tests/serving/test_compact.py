from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from earshot.spectrogram import DEFAULT_PARAMS
from serving.compact import CompactModel, load_compact, save_compact
from serving.failures import InvalidModelFile
from serving.network import Architecture, ConvBlock, Head, NetworkError, blocks_needed
from serving.starter import STARTER

if TYPE_CHECKING:
    from pathlib import Path


def model() -> CompactModel:
    random = np.random.default_rng(0)
    levels = random.integers(0, 256, size=(3, 3, 3, 8))
    levels[0, 0, 0, 0], levels[0, 0, 1, 0] = 0, 255
    levels[..., 1] //= 4
    kernel = levels.astype(np.float32) * np.float32(0.01) - np.float32(1.0)
    block = ConvBlock(kernel, *(random.normal(size=8).astype(np.float32) for _ in range(3)))
    head = Head(((random.normal(size=(16, 2)).astype(np.float32), np.zeros(2, np.float32)),))
    blocks = (block,) * blocks_needed(["mixed2"])
    return CompactModel(Architecture(("mixed2",)), blocks, head, ("a", "b"), DEFAULT_PARAMS, "# card", (0.25, 0.5))


def test_what_is_saved_comes_back_and_kernels_of_8_bits_unchanged(tmp_path: Path) -> None:
    before = model()
    save_compact(before, tmp_path / "model.npz")
    after = load_compact(tmp_path / "model.npz")
    np.testing.assert_array_equal(after.blocks[0].kernel, before.blocks[0].kernel)
    np.testing.assert_array_equal(after.blocks[0].variance, before.blocks[0].variance)
    np.testing.assert_allclose(after.head.layers[0][0], before.head.layers[0][0], rtol=1e-3)
    assert (after.architecture, after.class_names) == (before.architecture, before.class_names)
    assert (after.params, after.card, after.thresholds) == (before.params, before.card, before.thresholds)
    assert [path.name for path in tmp_path.iterdir()] == ["model.npz"]


def test_a_channel_that_hardly_answers_is_kept_as_exactly_as_the_others(tmp_path: Path) -> None:
    before = model()
    kernel = np.random.default_rng(1).normal(size=(3, 3, 3, 8)).astype(np.float32)
    kernel[..., 2] *= 1e-4
    kernel[..., 5] = 0.003  # says nothing but an offset
    save_compact(
        replace(before, blocks=(replace(before.blocks[0], kernel=kernel), *before.blocks[1:])), tmp_path / "model.npz"
    )
    after = load_compact(tmp_path / "model.npz").blocks[0].kernel
    furthest = np.abs(after - kernel).max(axis=(0, 1, 2))
    spread = np.ptp(kernel, axis=(0, 1, 2))
    assert (furthest <= spread / 500 + 1e-9).all()


def test_a_model_that_was_in_this_form_before_is_kept_to_the_last_bit(tmp_path: Path) -> None:
    save_compact(load_compact(STARTER), tmp_path / "again.npz")
    before, after = load_compact(STARTER), load_compact(tmp_path / "again.npz")
    for one, other in zip(before.blocks, after.blocks, strict=True):
        for field in ("kernel", "beta", "mean", "variance"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
    for one_layer, other_layer in zip(before.head.layers, after.head.layers, strict=True):
        np.testing.assert_array_equal(one_layer[0], other_layer[0])
        np.testing.assert_array_equal(one_layer[1], other_layer[1])


def test_blocks_that_the_network_leaves_out_are_not_stored(tmp_path: Path) -> None:
    few = replace(model(), architecture=Architecture(("mixed0", "mixed1")), blocks=model().blocks * 94)
    save_compact(few, tmp_path / "model.npz")
    assert len(load_compact(tmp_path / "model.npz").blocks) == 5 + 7 + 7


def test_of_networks_side_by_side_each_keeps_the_blocks_that_it_uses(tmp_path: Path) -> None:
    block = model().blocks[0]
    numbered = tuple(replace(block, beta=np.full(8, number, np.float32)) for number in range(2 * 30))
    pair = replace(model(), architecture=Architecture(("mixed0",), inceptions=2), blocks=numbered)
    save_compact(pair, tmp_path / "model.npz")
    kept = load_compact(tmp_path / "model.npz")
    assert kept.architecture.inceptions == 2
    assert [block.beta[0] for block in kept.blocks] == [*range(12), *range(30, 42)]
    with pytest.raises(
        NetworkError, match="mixed0 need 12 blocks of each of 2 Inception V3s, the weights hold 59 in all"
    ):
        save_compact(replace(pair, blocks=numbered[:-1]), tmp_path / "model.npz")


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped", "other"])
def test_a_file_that_is_not_a_whole_model_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "model.npz"
    save_compact(model(), path)
    if damage == "missing":
        path.unlink()
    elif damage == "other":
        np.savez(path, something=np.zeros(3))
    elif damage == "flipped":  # a byte of the first array
        whole = path.read_bytes()
        for place in range(80, 240, 7):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
            with pytest.raises(InvalidModelFile, match=r"model\.npz"):
                load_compact(path)
    else:
        path.write_bytes(path.read_bytes()[: 0 if damage == "empty" else 900])
    with pytest.raises(InvalidModelFile, match=r"model\.npz"):
        load_compact(path)
