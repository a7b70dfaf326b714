"""Versions under a base path; no TensorFlow is needed to keep them in order, so their files are stand-ins here."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from serving.catalogue import (
    CannotPublish,
    NoBasePath,
    NoSuchVersion,
    NotWhole,
    VersionAppeared,
    draft,
    next_version,
    roll_back,
    versions,
)
from serving.layout import CARD_FILE, CLASSES_FILE, PROMOTION_FILE, SAVED_MODEL_FILE, TRAINING_FILE, version_in
from tests.processes import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def make(base_path: Path, number: int, **training: Any) -> Path:
    """The files of a version, told apart by its number."""
    folder = base_path / str(number)
    (folder / "variables").mkdir(parents=True)
    (folder / "assets.extra").mkdir()
    (folder / SAVED_MODEL_FILE).write_bytes(b"graph %d" % number)
    (folder / "variables" / "variables.index").write_bytes(b"index")
    (folder / "variables" / "variables.data-00000-of-00001").write_bytes(b"%d" % number * 100_000)
    (folder / CLASSES_FILE).write_text("dog_bark\nsiren\n")
    (folder / CARD_FILE).write_text(f"# Card of {number}\n")
    if training:
        (folder / TRAINING_FILE).write_text(json.dumps(training))
    return folder


def names(base_path: Path) -> list[str]:
    return sorted(path.name for path in base_path.iterdir())


def test_a_folder_of_versions_means_the_newest_and_another_one_itself(tmp_path: Path) -> None:
    for number in (9, 10, 20261123180405000000):  # the last is a time, and more than a version can be
        make(tmp_path, number)
    assert version_in(tmp_path) == tmp_path / "10"
    assert version_in(tmp_path / "9") == tmp_path / "9"
    for path in (tmp_path / "9" / "variables", tmp_path / "nowhere", tmp_path / "9" / SAVED_MODEL_FILE):
        assert version_in(path) == path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_next_version_is_one_after_the_highest_that_can_be_served(tmp_path: Path) -> None:
    assert next_version(tmp_path).name == "1"
    for name in ("2", "10", ".11", "eleven", str(2**63)):
        (tmp_path / name).mkdir()
    assert next_version(tmp_path).name == "11"
    (tmp_path / "11").write_text("no version")
    (tmp_path / "12").symlink_to("nowhere")
    assert next_version(tmp_path).name == "13"


def test_versions_are_listed_by_number_with_what_their_files_say(tmp_path: Path) -> None:
    make(tmp_path, 9)
    held_out = {"accuracy": 0.707, "clips": 873}
    make(tmp_path, 10, made="2026-11-23T18:04:05Z", held_out=held_out, folds={"1": {"accuracy": 0.1, "clips": 9}})
    folds = {"1": {"accuracy": 0.8, "clips": 100}, "2": {"accuracy": 0.5, "clips": 200}}
    make(tmp_path, 2, folds=folds, held_out=None)
    (tmp_path / ".11-unfinished").mkdir()
    there = versions(tmp_path)
    assert [version.number for version in there] == [10, 9, 2]
    ten, nine, two = there
    assert (ten.made.isoformat(), ten.accuracy, ten.judged_on) == ("2026-11-23T18:04:05+00:00", 0.707, "held out")
    assert (ten.judged_clips, nine.judged_clips, two.judged_clips) == (873, 0, 300)
    assert (nine.accuracy, nine.judged_on, nine.classes, nine.lacks) == (None, "", 2, "")
    assert two.accuracy == pytest.approx(0.6)
    assert two.judged_on == "folds"
    assert nine.size_bytes == sum(map(len, contents(nine.folder).values()))
    assert nine.made.timestamp() == pytest.approx((nine.folder / SAVED_MODEL_FILE).stat().st_mtime)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (CLASSES_FILE, b"\xff\xfe\n"),
        (CARD_FILE, b"\xff\xfe\n"),
        (PROMOTION_FILE, b"[" * 100_000),
        (TRAINING_FILE, b'{"held_out": {"accuracy": 1, "clips": 1e400}}'),
        (TRAINING_FILE, b'{"held_out": {"accuracy": 1e400, "clips": 9}}'),
        (TRAINING_FILE, b'{"folds": {"1": {"accuracy": 0.5, "clips": 0}}}'),
    ],
)
def test_a_damaged_file_beside_the_graph_keeps_nobody_from_listing_or_going_back(
    tmp_path: Path, file: str, content: bytes
) -> None:
    make(tmp_path, 1)
    (make(tmp_path, 2) / file).write_bytes(content)
    two, one = versions(tmp_path)
    assert (two.number, two.accuracy, two.lacks) == (2, None, "")
    assert roll_back(tmp_path).name == "3"
    assert versions(tmp_path)[0].again == one.number
    assert roll_back(tmp_path, to=2).name == "4"


@pytest.mark.parametrize("file", [CLASSES_FILE, TRAINING_FILE])
def test_a_folder_in_the_place_of_a_file_is_as_if_there_were_none(tmp_path: Path, file: str) -> None:
    version = make(tmp_path, 1)
    (version / file).unlink(missing_ok=True)
    (version / file).mkdir()
    assert [one.number for one in versions(tmp_path)] == [1]


@pytest.mark.parametrize(
    ("lost", "lacks"),
    [
        ("saved_model.pb", "saved_model.pb"),
        ("variables/variables.index", "variables/variables.index"),
        ("variables/variables.data-00000-of-00001", "1 of 1 files variables/variables.data-*"),
    ],
)
def test_a_version_that_lacks_a_file_is_not_whole_and_is_not_rolled_back_to(
    tmp_path: Path, lost: str, lacks: str
) -> None:
    (make(tmp_path, 1) / lost).unlink()
    make(tmp_path, 2)
    assert [version.lacks for version in versions(tmp_path)] == ["", lacks]
    with pytest.raises(NotWhole, match="1 is not a whole version: it lacks"):
        roll_back(tmp_path)
    assert names(tmp_path) == ["1", "2"]


def test_of_several_files_of_variables_each_counts(tmp_path: Path) -> None:
    shards = make(tmp_path, 1) / "variables"
    (shards / "variables.data-00000-of-00001").rename(shards / "variables.data-00000-of-00003")
    (shards / "variables.data-00002-of-00003").touch()
    assert versions(tmp_path)[0].lacks == "1 of 3 files variables/variables.data-*"


def test_rolling_back_publishes_the_version_before_under_the_next_number_and_says_so(tmp_path: Path) -> None:
    two = make(tmp_path, 2, made="2026-11-23T18:04:05Z")
    seven = make(tmp_path, 7)
    before = contents(two), contents(seven)
    assert roll_back(tmp_path, reason="it hears dogs everywhere") == tmp_path / "8"
    assert (contents(two), contents(seven)) == before
    added = {PROMOTION_FILE, CARD_FILE}
    published = contents(tmp_path / "8")
    assert {name: data for name, data in published.items() if name not in added} == {
        name: data for name, data in before[0].items() if name not in added
    }
    event = json.loads(published[PROMOTION_FILE])
    at = event.pop("at")
    assert event == {"event": "rollback", "again": 2, "after": 7, "reason": "it hears dogs everywhere"}
    card = published[CARD_FILE].decode()
    assert card.startswith("# Card of 2\n\n## Version 8\n\nVersion 2 again, in place of version 7, since ")
    assert card.endswith("UTC: it hears dogs everywhere\n")
    assert at.endswith("Z")
    newest = versions(tmp_path)[0]
    assert (newest.number, newest.again, newest.made.year) == (8, 2, 2026)
    assert names(tmp_path) == ["2", "7", "8"]


def test_a_named_version_is_rolled_back_to_and_its_history_is_kept(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        make(tmp_path, number)
    assert roll_back(tmp_path, to=1).name == "4"
    assert roll_back(tmp_path, to=4 - 1).name == "5"
    assert roll_back(tmp_path, to=4).name == "6"
    event = json.loads((tmp_path / "6" / PROMOTION_FILE).read_text())
    assert (event["again"], event["after"], event["before"]["again"], event["before"]["after"]) == (4, 5, 1, 3)
    assert (tmp_path / "6" / SAVED_MODEL_FILE).read_bytes() == b"graph 1"
    assert (tmp_path / "6" / CARD_FILE).read_text().count("## Version") == 2


@pytest.mark.parametrize(
    ("there", "to", "words"),
    [
        ((), None, "holds no version, a folder whose name is a number"),
        ((3,), None, "holds no older version to go back to: only 3 is there"),
        ((1, 3), 2, "holds no version 2 to go back to: older ones than 3, the newest, are 1"),
        ((1, 3), 3, "version 3 is the newest already"),
    ],
)
def test_what_cannot_be_rolled_back_to_is_said_and_nothing_is_written(
    tmp_path: Path, there: tuple[int, ...], to: int | None, words: str
) -> None:
    for number in there:
        make(tmp_path, number)
    with pytest.raises(NoSuchVersion, match=words):
        roll_back(tmp_path, to)
    assert names(tmp_path) == [str(number) for number in there]


def test_a_folder_that_is_no_base_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoBasePath, match="nowhere is no folder"):
        versions(tmp_path / "nowhere")
    with pytest.raises(NoBasePath, match=f"1 is a version itself; name the folder that it is in, {tmp_path}"):
        versions(make(tmp_path, 1))


def test_where_another_version_appears_meanwhile_nothing_is_published(tmp_path: Path) -> None:
    make(tmp_path, 1)
    with draft(tmp_path / "1", tmp_path) as copy:
        make(tmp_path, 2)
        with pytest.raises(VersionAppeared, match="decide anew"):
            copy.publish({"event": "test"}, "A test.")
    assert names(tmp_path) == ["1", "2"]
    assert (tmp_path / "2" / SAVED_MODEL_FILE).read_bytes() == b"graph 2"


def test_of_several_at_once_each_publishes_under_a_number_of_its_own_or_not_at_all(tmp_path: Path) -> None:
    make(tmp_path, 1)
    make(tmp_path, 2)
    published: list[Path] = []
    refused: list[VersionAppeared] = []
    ready = threading.Barrier(8)

    def one() -> None:
        ready.wait()
        try:
            published.append(roll_back(tmp_path, to=1))
        except VersionAppeared as error:
            refused.append(error)

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(published) + len(refused) == 8
    assert published
    assert names(tmp_path) == sorted({"1", "2", *(path.name for path in published)})
    assert all((path / SAVED_MODEL_FILE).read_bytes() == b"graph 1" for path in published)
    assert len(set(published)) == len(published)


def test_a_draft_is_hidden_from_servers_and_gone_when_it_is_given_up(tmp_path: Path) -> None:
    make(tmp_path, 1)
    with draft(tmp_path / "1", tmp_path) as copy:
        assert copy.folder.name.startswith(".2-")
        assert [version.number for version in versions(tmp_path)] == [1]
    assert names(tmp_path) == ["1"]


def test_a_version_of_another_users_umask_can_be_read_by_a_server(tmp_path: Path) -> None:
    make(tmp_path, 1).chmod(0o700)
    with draft(tmp_path / "1", tmp_path) as copy:
        published = copy.publish({"event": "test"}, "A test.")
    assert published.stat().st_mode & 0o777 == 0o755


def test_a_disk_that_fills_is_said_and_leaves_nothing_half_there(tmp_path: Path) -> None:
    make(tmp_path, 1)
    make(tmp_path, 2)

    def no_space() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    done = subprocess.run(
        [sys.executable, "-m", "earshot.cli", "models", "rollback", "--model-base-path", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=no_space,
    )
    assert done.returncode == 2
    assert f"cannot put a version into {tmp_path}" in done.stderr
    assert "is the disk full" in done.stderr
    assert "Traceback" not in done.stderr
    assert names(tmp_path) == ["1", "2"]


def test_the_highest_number_that_there_is_has_none_after_it(tmp_path: Path) -> None:
    make(tmp_path, 1)
    make(tmp_path, 2**63 - 1)
    with pytest.raises(CannotPublish, match="nothing can come after it"):
        roll_back(tmp_path)
