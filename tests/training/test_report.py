"""The page is parsed as a browser would: what is in it, what is not, and that nothing in it is taken for markup."""

from __future__ import annotations

import base64
import io
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib.image
import numpy as np
import pytest
import soundfile

from earshot.folders import NotWritable
from earshot.spectrogram import spectrogram
from tests.producers.sounds import tone
from training.data.clips import Clip
from training.evaluation import plots
from training.evaluation.answers import Answers
from training.evaluation.metrics import calibration, judge, rows
from training.evaluation.page import page
from training.evaluation.report import package_versions, report_files, write_report

NASTY = '<script>alert("1")</script> & $x$ é.wav'
CLASSES = ("a<b", "c&d", "$e$")


class Read(HTMLParser):
    """Words and tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def answers(tmp_path: Path) -> Answers:
    """Nine clips in two folds, three wrong: one of a file with a nasty name, one of a file that is gone."""
    clips = []
    for number in range(9):
        path = tmp_path / (f"{number}.wav" if number else "nasty.wav")
        if number != 5:
            soundfile.write(path, tone(0.5, -10.0, hz=440), 16_000)
        clips.append(Clip(path, CLASSES[number % 3], 1 + number // 5, str(number)))
    scores = np.full((9, 3), 0.1, np.float32)
    for number in range(9):
        scores[number, (number + (number in {0, 5, 7})) % 3] = 0.8
    return Answers(CLASSES, tuple(clips), scores, scores)


@pytest.fixture
def run(answers: Answers) -> dict[str, Any]:
    parts = {fold: answers.of_fold(fold) for fold in (1, 2)}
    made: dict[str, Any] = {
        "title": f"Evaluation of {NASTY}",
        "class_names": list(CLASSES),
        "clips": 9,
        "background_clips": 0,
        "unreadable": [f"{NASTY} is silent"],
        "folds": {str(fold): {**judge(part), "answers": rows(part)} for fold, part in parts.items()},
        "pooled": judge(answers),
        "seconds": {"model": 1.5, "answers": 1234.5},
        "peak_memory_mb": {"model": 900, "answers": 1_100},
        "settings": {"data": f"/data/{NASTY}", "batch": 16, "report": None},
        "packages": package_versions(),
    }
    for row in (made["pooled"]["worst"][0], made["folds"]["1"]["answers"][0]):
        row["clip"] = NASTY  # no file system takes the name's slash
    return made


def test_every_clip_class_and_figure_is_on_the_page(run: dict[str, Any]) -> None:
    read = Read(page(run))
    names = {row["clip"] for fold in run["folds"].values() for row in fold["answers"]}
    assert len(names) == 9
    assert names <= set(read.words)
    assert set(CLASSES) <= set(read.words)
    assert {"66.7\N{NO-BREAK SPACE}%", "0.667", "1,234.5 s", f"{NASTY} is silent", f"/data/{NASTY}"} <= set(read.words)
    assert run["packages"]["numpy"] in read.words
    assert not any("by chance up to" in words for words in read.words)  # nine recordings do not tell
    run["pooled"]["calibration"]["ece_by_chance"] = {"mean": 0.1, "p95": 0.21}
    assert any("calibration error (by chance up to 0.210)" in words for words in Read(page(run)).words)


def test_nothing_that_comes_from_outside_is_markup(run: dict[str, Any]) -> None:
    text = page(run)
    read = Read(text)
    assert {tag for tag, _ in read.tags} & {"script", "b<", "e$"} == set()
    assert "<script" not in text
    assert "a<b" not in text
    assert [attributes for _, attributes in read.tags if any(name.startswith("on") for name in attributes)] == []


def test_the_page_needs_nothing_from_elsewhere(run: dict[str, Any]) -> None:
    read = Read(page(run))
    sources = [value for _, attributes in read.tags for name, value in attributes.items() if name in {"src", "href"}]
    assert all(str(source).startswith("data:image/png;base64,") for source in sources if str(source)[0] != "#")
    assert read.all("link") == []


def test_mistakes_come_with_pictures_and_one_whose_clip_is_gone_says_so(run: dict[str, Any]) -> None:
    read = Read(page(run))
    assert len(read.all("figure")) == len(run["pooled"]["worst"]) == 3
    assert len(read.all("img")) == 2
    assert "the clip can no longer be read" in read.words


def test_a_picture_is_the_clips_spectrogram_low_frequencies_at_the_bottom() -> None:
    low, high = tone(3.0, -10.0, hz=200), tone(3.0, -10.0, hz=6_000)
    for pcm, lower in ((low, True), (high, False)):
        head, _, data = plots.sound(spectrogram(pcm)).partition(",")
        assert head == "data:image/png;base64"
        image = matplotlib.image.imread(io.BytesIO(base64.b64decode(data)))
        assert image.shape[:2] == spectrogram(pcm).shape[:2]
        brightness = image[:, :, :3].sum(axis=(1, 2))
        assert bool(brightness.argmax() > 64) is lower
    assert plots.sound(np.zeros((128, 301, 3), np.uint8)).startswith("data:image/png")


def test_pictures_are_svg_in_the_pages_ink_and_the_same_each_time(run: dict[str, Any], answers: Answers) -> None:
    pooled = run["pooled"]
    drawn = [
        plots.confusion_matrix(pooled["confusion"], CLASSES),
        plots.precision_recall(pooled["classes"]),
        plots.reliability({"before": calibration(answers), "after": pooled["calibration"]}),
        plots.learning_curves([{"epoch": 1, "loss": 2.0, "val_loss": 3.0, "accuracy": 0.5}, {"epoch": 2, "loss": 1.0}]),
        plots.durations(run["seconds"]),
    ]
    for svg in drawn:
        assert ET.fromstring(svg).tag.endswith("svg")
        assert "currentColor" in svg
        assert plots.INK not in svg
    words = [set(ET.fromstring(svg).itertext()) for svg in drawn]
    assert set(CLASSES) <= words[0]
    assert {"before: error 0.133", "after: error 0.133"} <= words[2]
    assert {"loss", "val_loss", "accuracy"} <= words[3]
    several = [{"epoch": 1, "loss, fold 1": 2.0, "val_loss, fold 1": 3.0, "loss, fold 2": 1.0, "rate, fold 1": 0.1}]
    panels = ET.fromstring(plots.learning_curves(several))
    assert list(panels.itertext()).count("epoch") == 3  # losses of other clips and labels are not to be compared
    assert plots.confusion_matrix(pooled["confusion"], CLASSES) == drawn[0]
    ids = [one.get("id") for svg in drawn for one in ET.fromstring(svg).iter() if one.get("id")]
    assert len(ids) == len(set(ids))


def test_the_page_has_what_the_run_gives_and_no_more(run: dict[str, Any], answers: Answers) -> None:
    plain = page(run)
    assert "Learning curves" not in plain
    assert "before calibration" not in plain
    assert "unknown" not in plain
    assert "few recordings" not in plain
    more: dict[str, Any] = {
        **run,
        "thin_classes": {"a<b": 3},
        "learning_curves": [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.5}],
    }
    strict = Answers(CLASSES, answers.clips, answers.segment, answers.whole, np.full(1, 0.9, np.float32))
    more["pooled"] = {**judge(strict), "calibration_before": calibration(answers)}
    text = page(more)
    assert "Learning curves" in text
    assert "whose figures say little: a&lt;b (3)" in text
    assert "before calibration" in text
    assert "recall of labels" in text
    assert text.count('<td class="number">0.900</td>') >= len(CLASSES)  # the threshold of each
    assert "recall of labels" not in plain
    assert "of labels are <i>unknown</i>" in text


def test_a_published_model_that_was_judged_has_its_own_part(run: dict[str, Any]) -> None:
    held_out = page({**run, "folds": {}, "pooled": None, "held_out": run["folds"]["1"]})
    assert "The published model, on the folds whose labels it never saw" in held_out
    assert "The recipe, on folds" not in held_out
    both = page({**run, "held_out": run["folds"]["1"]})
    assert "The recipe, on folds" in both
    answered = {fold: len(one["answers"]) for fold, one in run["folds"].items()}
    assert both.count("<td>a model of its recipe</td>") == sum(answered.values())
    assert both.count("<td>the published model</td>") == answered["1"]
    assert "answered by" not in held_out
    nothing = page({**run, "folds": {}, "pooled": None})
    assert "Confusion" not in nothing


def test_one_clip_of_a_class_that_the_model_does_not_know_makes_a_page(tmp_path: Path) -> None:
    scores = np.array([[0.7, 0.2, 0.1]], np.float32)
    judged = judge(Answers(CLASSES, (Clip(tmp_path / "gone.wav", "fox", 1, "x"),), scores, scores))
    run = {
        "title": "t",
        "class_names": CLASSES,
        "clips": 1,
        "background_clips": 0,
        "unreadable": [],
        "folds": {},
        "pooled": judged,
    }
    took = {"seconds": {"answers": 0.0}, "peak_memory_mb": {"answers": 1}}
    read = Read(page({**run, **took, "settings": {"data": "d"}, "packages": {}}))
    assert "The model does not know fox: 1 clips count as wrong." in read.words


def test_both_files_are_written_and_hold_the_same_values(run: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    values, html = write_report(run, tmp_path / "out" / "report.html")
    assert sorted((tmp_path / "out").iterdir()) == [html, values]
    assert json.loads(values.read_text()) == json.loads(json.dumps(run))
    assert html.read_text(encoding="utf-8") == page(run)


@pytest.mark.parametrize(
    ("name", "stem"), [("r.html", "r"), ("r.json", "r"), ("r", "r"), ("r.v2", "r.v2"), ("r.v2.html", "r.v2")]
)
def test_a_report_has_two_names_whichever_was_asked_for(name: str, stem: str) -> None:
    assert report_files(Path("out") / name) == (Path("out") / f"{stem}.json", Path("out") / f"{stem}.html")


@pytest.mark.parametrize("folder", [".", "..", "/", "out/.."])
def test_a_report_is_no_folder(folder: str) -> None:
    with pytest.raises(NotWritable, match="is a folder; --report names a file, such as"):
        report_files(Path(folder))


def test_a_file_name_that_is_no_text_does_not_spoil_the_page(run: dict[str, Any], tmp_path: Path) -> None:
    run["unreadable"] = ["\udcff.wav is silent"]
    _, html = write_report(run, tmp_path / "report")
    assert "?.wav is silent" in html.read_text(encoding="utf-8")
