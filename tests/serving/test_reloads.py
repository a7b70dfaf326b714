"""Another configuration while models are served: what is waited for, what refused, and what stays."""

from __future__ import annotations

import asyncio
import shutil
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from earshot.tfserving import messages
from serving.layout import version_folders
from serving.modelserver.errors import ServingError
from serving.modelserver.model_config import ModelConfig
from serving.modelserver.servables import Servables
from serving.modelserver.version_policy import VersionPolicy
from serving.modelserver.version_status import State
from tests.serving.engines import Doubler
from tests.serving.offered import base_paths, served, states, watch
from tests.serving.watched import write
from tests.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path


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
