"""Models that come and go, and what is said of them afterwards."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from structlog.testing import capture_logs

from earshot.tfserving import messages
from serving.failures import CannotLoadNow
from serving.layout import version_folders
from serving.modelserver.errors import ServingError
from serving.modelserver.model_config import ModelConfig
from serving.modelserver.servables import Servables
from serving.modelserver.version_policy import VersionPolicy
from serving.modelserver.version_status import State
from serving.modelserver.versions import Retries, VersionWatcher
from tests.serving.engines import Doubler
from tests.serving.watched import write
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def load(folder: Path) -> Doubler:
    if folder.name == "2":
        raise CannotLoadNow("no memory")
    return Doubler(folder)


def watch(
    model: ModelConfig,
    changed: Callable[[], None],
    load: Callable[[Path], Doubler] = load,
    poll_s: float = 0.05,
    passing: Callable[[Exception], bool] = bool,
) -> VersionWatcher:
    retries = Retries(5, 3600.0)
    return VersionWatcher(
        model.base_path, load, policy=model.policy, poll_s=poll_s, retries=retries, passing=passing, on_change=changed
    )


def base_paths(folder: Path, **versions: tuple[int, ...]) -> None:
    """A base path of each name in `folder`, with these versions."""
    for name, own in versions.items():
        (folder / name).mkdir()
        write(folder / name, *own)


@pytest.fixture
def servables() -> Iterator[Servables]:
    made = Servables(watch)
    yield made
    made.stop()


def states(servables: Servables, model: str) -> dict[int, State]:
    return {each.version: each.state for each in servables.statuses(model)}


def test_of_a_model_that_is_offered_no_more_the_versions_that_were_served_are_told(
    tmp_path: Path, servables: Servables
) -> None:
    write(tmp_path, 1, 2)
    model = ModelConfig("m", tmp_path, VersionPolicy(newest=None))
    for _ in range(3):
        servables.offer([model])
        wait_for(
            lambda: states(servables, "m") == {1: State.AVAILABLE, 2: State.LOADING},
            20,
            "one to be served, one to wait",
        )
        servables.offer([])
        wait_for(lambda: states(servables, "m") == {1: State.END}, 20, "all that was served to be unloaded")
    (tmp_path / "1").rename(tmp_path / "3")
    servables.offer([model])
    wait_for(
        lambda: states(servables, "m") == {1: State.END, 2: State.LOADING, 3: State.AVAILABLE}, 20, "another version"
    )


def test_nothing_is_kept_of_models_of_which_nothing_was_served(tmp_path: Path, servables: Servables) -> None:
    for number in range(5):
        servables.offer([ModelConfig(f"m{number}", tmp_path)])
    servables.offer([])
    wait_for(lambda: not any(servables.statuses(f"m{number}") for number in range(5)), 20, "all to be forgotten")
    servables.offer([])
    assert servables._past == {}


def served(base_path: Path, servables: Servables, *versions: int) -> ModelConfig:
    """A model of which these versions, all that are there, are served."""
    model = ModelConfig("m", base_path, VersionPolicy(newest=None))
    servables.offer([model])
    wait_for(lambda: states(servables, "m") == dict.fromkeys(versions, State.AVAILABLE), 20, "all to be served")
    return model


def test_a_reload_of_what_cannot_come_to_be_touches_nothing_that_is_served(
    tmp_path: Path, servables: Servables
) -> None:
    base_paths(tmp_path, m=(1, 3), more=(1,))
    model = served(tmp_path / "m", servables, 3, 1)
    before = dict(servables.watchers["m"].loaded)
    newest_alone = ModelConfig("m", tmp_path / "m", VersionPolicy(newest=1), {"stable": 1})
    one_alone = ModelConfig("m", tmp_path / "m", VersionPolicy(specific=(1,)), {"canary": 3})
    mistyped = ModelConfig("m", tmp_path / "m", VersionPolicy(specific=(99,)))
    mislabelled = ModelConfig("m", tmp_path / "m", model.policy, {"stable": 9})
    added = ModelConfig("more", tmp_path / "more", VersionPolicy(), {"stable": 9})
    for models, words in (
        ([mistyped], "did not become available: {m: no version there}"),
        ([mislabelled], "not currently available for inference"),
        ([newest_alone], "not currently available for inference"),
        ([one_alone], "not currently available for inference"),
        ([model, added], "not currently available for inference"),
    ):
        with pytest.raises(ServingError, match=words):
            asyncio.run(servables.reload(models))
        assert list(servables.watchers) == ["m"]
        assert servables.watchers["m"].loaded == before
        assert servables.watchers["m"].policy == model.policy
    assert states(servables, "m") == {1: State.AVAILABLE, 3: State.AVAILABLE}


@pytest.mark.parametrize("away", [False, True], ids=["broken", "no base path"])
def test_a_model_that_was_offered_before_without_a_version_keeps_no_other_from_being_offered(
    tmp_path: Path, servables: Servables, away: bool
) -> None:
    base_paths(tmp_path, good=(1,), bad=(2,), more=(1,))
    good, bad = (ModelConfig(name, tmp_path / name) for name in ("good", "bad"))
    servables.offer([good, bad])
    wait_for(lambda: states(servables, "good") == {1: State.AVAILABLE}, 20, "one to be served")
    if away:
        shutil.rmtree(tmp_path / "bad")
    labelled = ModelConfig("good", tmp_path / "good", labels={"stable": 1})
    models = [labelled, bad, ModelConfig("more", tmp_path / "more")]
    asyncio.run(asyncio.wait_for(servables.reload(models), 20))
    assert {name: list(watcher.loaded) for name, watcher in servables.watchers.items()} == {
        "good": [1],
        "bad": [],
        "more": [1],
    }
    with pytest.raises(ServingError, match="Could not find base path"):
        asyncio.run(asyncio.wait_for(servables.reload([labelled, ModelConfig("bad", tmp_path / "nowhere")]), 20))


def test_a_model_that_is_still_being_loaded_keeps_no_other_waiting(tmp_path: Path) -> None:
    go = threading.Event()

    def load_slowly(folder: Path) -> Doubler:
        if folder.parent.name == "slow":
            go.wait(30)
        return Doubler(folder)

    servables = Servables(partial(watch, load=load_slowly))
    base_paths(tmp_path, slow=(1,), more=(1,))
    slow, more = (ModelConfig(name, tmp_path / name) for name in ("slow", "more"))
    servables.offer([slow])
    wait_for(lambda: states(servables, "slow") == {1: State.LOADING}, 20, "it to be loading")
    asyncio.run(asyncio.wait_for(servables.reload([slow, more]), 20))
    assert {name: list(each.loaded) for name, each in servables.watchers.items()} == {"slow": [], "more": [1]}
    go.set()
    servables.stop()


def test_what_a_reload_that_waits_has_moved_is_new_to_the_next(tmp_path: Path) -> None:
    broken, go = threading.Event(), threading.Event()

    def load_unless_broken(folder: Path) -> Doubler:
        if folder.parent.name == "slow":
            go.wait(30)
        if folder.parent.name == "m" and broken.is_set():
            raise ValueError("broken")
        return Doubler(folder)

    async def main() -> None:
        moved = asyncio.ensure_future(
            servables.reload([ModelConfig("m", tmp_path / "other"), ModelConfig("slow", tmp_path / "slow")])
        )
        moves = partial(wait_for, lambda: servables.watchers["m"].loaded[1] is not before, 20, "it to be moved")
        await asyncio.to_thread(moves)
        broken.set()
        with pytest.raises(ServingError, match=r"did not become available: {m: ValueError: broken}"):
            await asyncio.wait_for(servables.reload([model]), 20)
        with pytest.raises(ServingError, match="another configuration came"):
            await moved

    servables = Servables(partial(watch, load=load_unless_broken, passing=lambda _: False))
    base_paths(tmp_path, m=(1,), other=(1,), slow=(1,))
    model = ModelConfig("m", tmp_path / "m")
    servables.offer([model])
    wait_for(lambda: states(servables, "m") == {1: State.AVAILABLE}, 20, "it to be served")
    before = servables.watchers["m"].loaded[1]
    asyncio.run(main())
    go.set()
    servables.stop()


def test_while_its_base_path_is_away_a_model_keeps_its_labels(tmp_path: Path, servables: Servables) -> None:
    base_paths(tmp_path, m=(1,), more=(1,))
    model = ModelConfig("m", tmp_path / "m", labels={"stable": 1})
    servables.offer([model])
    wait_for(lambda: states(servables, "m") == {1: State.AVAILABLE}, 20, "it to be served")
    shutil.rmtree(tmp_path / "m")
    asyncio.run(asyncio.wait_for(servables.reload([model, ModelConfig("more", tmp_path / "more")]), 20))
    with servables.lease(messages.ModelSpec(name="m", version_label="stable")) as loaded:
        assert loaded.version == 1


def test_versions_of_another_base_path_say_nothing_of_what_a_label_may_name(
    tmp_path: Path, servables: Servables
) -> None:
    base_paths(tmp_path, m=(5,), other=(1, 3))
    served(tmp_path / "m", servables, 5)
    asyncio.run(servables.reload([ModelConfig("m", tmp_path / "other", VersionPolicy(), {"stable": 3})]))
    assert list(servables.watchers["m"].loaded) == [3]


def test_a_reload_of_which_nothing_can_be_loaded_is_refused_and_what_was_served_stays(tmp_path: Path) -> None:
    def load_but_two(folder: Path) -> Doubler:
        if folder.name == "2":
            raise ValueError("broken")
        return Doubler(folder)

    servables = Servables(partial(watch, load=load_but_two, passing=lambda _: False))
    base_paths(tmp_path, m=(1, 2), other=(2,), same=(1,))
    model = ModelConfig("m", tmp_path / "m", VersionPolicy(specific=(1,)))
    servables.offer([model])
    wait_for(lambda: states(servables, "m") == {1: State.AVAILABLE}, 20, "one to be served")
    before = servables.watchers["m"].loaded[1]
    for wrong in (
        ModelConfig("m", tmp_path / "m", VersionPolicy(specific=(2,))),
        ModelConfig("m", tmp_path / "other", VersionPolicy(newest=None)),
    ):
        with pytest.raises(ServingError, match=r"did not become available: {m: ValueError: broken}"):
            asyncio.run(asyncio.wait_for(servables.reload([wrong]), 20))
        assert servables.watchers["m"].loaded == {1: before}
        assert servables.watchers["m"].policy == model.policy
        wait_for(lambda: states(servables, "m")[1] is State.AVAILABLE, 20, "it to be said")
    asyncio.run(servables.reload([ModelConfig("m", tmp_path / "same")]))
    assert servables.watchers["m"].loaded[1] is not before
    assert servables.reloaded == 1
    servables.stop()


def test_of_two_reloads_the_one_that_came_later_stands_however_slow_the_disk_of_the_other(
    tmp_path: Path, servables: Servables, monkeypatch: pytest.MonkeyPatch
) -> None:
    base_paths(tmp_path, slow=(1,), quick=(1,))
    go = threading.Event()

    def looked_into(base_path: Path) -> dict[int, Path]:
        if base_path.name == "slow":
            assert go.wait(20)
        return version_folders(base_path)

    monkeypatch.setattr("serving.modelserver.servables.version_folders", looked_into)

    async def both() -> list[Any]:
        first = asyncio.ensure_future(servables.reload([ModelConfig("slow", tmp_path / "slow")]))
        await asyncio.sleep(0.05)
        assert servables.reloading
        await servables.reload([ModelConfig("quick", tmp_path / "quick")])
        go.set()
        return list(await asyncio.gather(first, return_exceptions=True))

    (refused,) = asyncio.run(both())
    assert refused.code is grpc.StatusCode.ABORTED
    assert list(servables.watchers) == ["quick"]
    assert not servables.reloading


@pytest.mark.parametrize("poll_s", [0.05, 0.0])
def test_back_to_a_version_in_which_a_request_still_runs(tmp_path: Path, poll_s: float) -> None:
    servables = Servables(partial(watch, poll_s=poll_s))
    base_paths(tmp_path, m=(1, 3))
    one, three = (ModelConfig("m", tmp_path / "m", VersionPolicy(specific=(version,))) for version in (1, 3))
    servables.offer([one])
    wait_for(lambda: states(servables, "m") == {1: State.AVAILABLE}, 20, "one to be served")

    async def back() -> None:
        with servables.watchers["m"].loaded[1].lease():
            await servables.reload([three])
            rollback = asyncio.ensure_future(servables.reload([one]))
            await asyncio.sleep(0.3)
            assert not rollback.done()
        await asyncio.wait_for(rollback, 20)

    asyncio.run(back())
    wait_for(lambda: list(servables.watchers["m"].loaded) == [1], 20, "the other one to be unloaded")
    servables.stop()


def test_a_base_path_that_vanishes_while_a_reload_waits_for_it_ends_the_wait(
    tmp_path: Path, servables: Servables
) -> None:
    base_paths(tmp_path, m=(1,), other=())
    served(tmp_path / "m", servables, 1)
    (tmp_path / "other" / "1").mkdir()  # and nothing in it yet

    async def vanishes() -> None:
        reload = asyncio.ensure_future(servables.reload([ModelConfig("m", tmp_path / "other")]))
        await asyncio.sleep(0.3)
        shutil.rmtree(tmp_path / "other")
        with pytest.raises(ServingError, match="FileNotFoundError"):
            await asyncio.wait_for(reload, 20)

    asyncio.run(vanishes())
    wait_for(lambda: states(servables, "m") == {1: State.AVAILABLE}, 20, "all to be as it was")


def test_of_what_is_served_it_is_said_whatever_was_tried_elsewhere(tmp_path: Path, servables: Servables) -> None:
    base_paths(tmp_path, m=(1,), other=(3,))
    served(tmp_path / "m", servables, 1)
    watcher, elsewhere = servables.watchers["m"], tmp_path / "other"
    (elsewhere / "1").mkdir()
    watcher.follow(elsewhere, VersionPolicy(specific=(1,)))
    wait_for(lambda: states(servables, "m")[1] is State.START, 20, "the empty folder to be seen")
    watcher.follow(elsewhere, VersionPolicy(specific=(9,)))
    wait_for(lambda: watcher.looked, 20, "another look")
    watcher.follow(tmp_path / "m", VersionPolicy())
    wait_for(lambda: states(servables, "m") == {1: State.AVAILABLE}, 20, "it to be said")


def test_models_that_a_reload_waits_for_do_not_say_that_those_of_before_are_not_served(
    tmp_path: Path, servables: Servables
) -> None:
    base_paths(tmp_path, m=(1,), new=())
    model = served(tmp_path / "m", servables, 1)
    (tmp_path / "new" / "1").mkdir()

    async def reload_while_one_is_copied() -> list[bool]:
        reload = asyncio.ensure_future(servables.reload([model, ModelConfig("new", tmp_path / "new")]))
        seen = []
        for _ in range(10):
            await asyncio.sleep(0.05)
            seen.append(servables.all_served)
        assert "new" in servables.watchers
        (tmp_path / "new" / "1" / "saved_model.pb").write_bytes(b"a graph")
        await asyncio.wait_for(reload, 20)
        return [*seen, servables.all_served]

    assert asyncio.run(reload_while_one_is_copied()) == [True] * 11
    assert list(servables.watchers["new"].loaded) == [1]


def test_a_reload_does_not_wait_for_a_folder_that_was_abandoned(tmp_path: Path, servables: Servables) -> None:
    write(tmp_path, 1)
    (tmp_path / "9").mkdir()
    model = ModelConfig("m", tmp_path, VersionPolicy(newest=None))
    servables.offer([model])
    wait_for(lambda: states(servables, "m") == {1: State.AVAILABLE, 9: State.START}, 20, "the folder to be found")
    labelled = ModelConfig("m", tmp_path, model.policy, {"stable": 1})
    asyncio.run(asyncio.wait_for(servables.reload([labelled]), 20))
    mislabelled = ModelConfig("m", tmp_path, model.policy, {"stable": 9})
    with pytest.raises(ServingError, match="not currently available for inference"):
        asyncio.run(asyncio.wait_for(servables.reload([mislabelled]), 20))


def test_while_the_base_path_is_away_its_versions_go_on_being_served(tmp_path: Path, servables: Servables) -> None:
    (tmp_path / "m").mkdir()
    write(tmp_path / "m", 1)
    served(tmp_path / "m", servables, 1)
    before = servables.watchers["m"].latest
    with capture_logs() as lines:
        (tmp_path / "m").rename(tmp_path / "away")
        wait_for(lambda: lines, 20, "it to be missed")
        time.sleep(0.3)
        (tmp_path / "away").rename(tmp_path / "m")
        write(tmp_path / "m", 3)
        wait_for(lambda: states(servables, "m").get(3) is State.AVAILABLE, 20, "it to be looked at again")
    assert servables.watchers["m"].loaded[1] is before
    assert [line["event"] for line in lines if line["log_level"] == "warning"] == [
        "cannot read the model base path, trying again"
    ]


def test_a_link_that_leads_nowhere_is_no_reason_not_to_serve(tmp_path: Path, servables: Servables) -> None:
    write(tmp_path, 1)
    (tmp_path / "1" / ".#notes").symlink_to("nobody@nowhere.1234")
    served(tmp_path, servables, 1)
