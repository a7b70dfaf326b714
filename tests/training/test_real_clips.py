"""Retraining on real clips and real weights, where they are at hand."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from tests.training.conftest import QUIET
from training.retrain import retrain
from training.settings import RetrainSettings


def test_real_clips_and_weights_are_told_apart_on_unseen_folds(tmp_path: Path) -> None:
    folder, weights = os.environ.get("EARSHOT_URBANSOUND8K"), os.environ.get("EARSHOT_INCEPTION_WEIGHTS")
    if not folder or not weights:
        pytest.skip("EARSHOT_URBANSOUND8K and EARSHOT_INCEPTION_WEIGHTS name no clips and weights")
    chosen = _some(Path(folder), tmp_path, kinds=("dog_bark", "gun_shot", "street_music"), each=7)
    settings = {
        "data": str(tmp_path),
        "weights": weights,
        "cache": tmp_path / "cache",
        "evaluate": "1,2",
        "generated_background": 8,
    }
    report = retrain(RetrainSettings.read(settings), QUIET)
    assert report["clips"] == chosen == 42
    assert all(one["accuracy"] > 0.6 for one in report["folds"].values()), report["folds"]


def _some(folder: Path, into: Path, kinds: tuple[str, ...], each: int) -> int:
    """Link `each` clips of each class from folds 1 and 2, each of another recording where there are so many."""
    with (folder / "metadata" / "UrbanSound8K.csv").open(newline="") as table:
        rows = [row for row in csv.DictReader(table) if row["fold"] in {"1", "2"} and row["class"] in kinds]
    taken: dict[tuple[str, str], list[dict[str, str]]] = {}
    heard: dict[str, int] = {}
    for row in rows:
        heard[row["fsID"]] = heard.get(row["fsID"], 0) + 1
        row["rank"] = str(heard[row["fsID"]])
    for row in sorted(rows, key=lambda row: int(row["rank"])):
        own = taken.setdefault((row["fold"], row["class"]), [])
        if len(own) < each:
            own.append(row)
    (into / "metadata").mkdir()
    with (into / "metadata" / "UrbanSound8K.csv").open("w", newline="") as table:
        writer = csv.DictWriter(table, list(rows[0]))
        writer.writeheader()
        writer.writerows(row for own in taken.values() for row in own)
    for row in (row for own in taken.values() for row in own):
        place = Path("audio") / f"fold{row['fold']}"
        (into / place).mkdir(parents=True, exist_ok=True)
        for clip in (folder / place).glob(f"{Path(row['slice_file_name']).stem}.*"):
            (into / place / clip.name).symlink_to(clip)
    return sum(map(len, taken.values()))
