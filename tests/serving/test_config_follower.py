"""Following the models' file: what is offered when, and what is logged how often.

A stub stands for the models, which load in no time or fail; `test_model_config.py` has a whole server follow a file.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import grpc
from structlog.testing import capture_logs

from serving.modelserver.config_follower import ConfigFollower
from serving.modelserver.errors import ServingError, unavailable
from serving.modelserver.model_config import read_models

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    import pytest

    from serving.modelserver.model_config import ModelConfig

POLL_S = 0.01
SUPERSEDED = ServingError(grpc.StatusCode.ABORTED, "another configuration came after this one")


class Models:
    """What was offered, by name; `problem` is what comes of an offer."""

    def __init__(self) -> None:
        self.offers: list[str] = []
        self.problem: ServingError | None = None
        self.reloading = False
        self.reloaded = 0
        self.looks = 0

    async def reload(self, models: Sequence[ModelConfig]) -> None:
        self.offers.append(models[0].name)
        if self.problem:
            raise self.problem
        self.reloaded += 1


def named(name: str) -> str:
    return f'model_config_list {{ config {{ name: "{name}" base_path: "/{name}" model_platform: "tensorflow" }} }}'


def says(file: Path, content: str) -> None:
    file.write_text(content)


def followed(
    tmp_path: Path, steps: Callable[[Path, Models], Coroutine[Any, Any, None]], *, empty: bool = False
) -> tuple[Models, list[str]]:
    """Have a file of a model `a`, which is offered, followed while `steps` happen; what was logged as problems.

    empty: whether it names no model at first.
    """
    file, models = tmp_path / "models.config", Models()

    def counted(path: Path, *, may_be_empty: bool) -> list[ModelConfig]:
        models.looks += 1
        return read_models(path, may_be_empty=may_be_empty)

    async def main() -> None:
        says(file, "" if empty else named("a"))
        tasks: set[asyncio.Task[None]] = set()
        servables: Any = models
        follower = ConfigFollower(file, servables, [], POLL_S, lambda offer: tasks.add(asyncio.ensure_future(offer)))
        running = asyncio.ensure_future(follower.run())
        if not empty:
            await until(lambda: models.offers == ["a"])
        await steps(file, models)
        running.cancel()
        await asyncio.gather(*tasks)

    with capture_logs() as lines, patch("serving.modelserver.config_follower.read_models", counted):
        asyncio.run(main())
    return models, [line["error"] for line in lines if "error" in line]


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(POLL_S)
    raise TimeoutError


async def some_looks(models: Models) -> None:
    """Return when the file, as it is now, was looked at several times."""
    seen = models.looks
    await until(lambda: models.looks > seen + 5)


def test_a_file_without_a_list_that_the_server_began_with_is_a_problem_once_another_was_there(tmp_path: Path) -> None:
    async def steps(file: Path, models: Models) -> None:
        await some_looks(models)
        says(file, named("a"))
        await until(lambda: models.offers == ["a"])
        says(file, "")
        await some_looks(models)

    models, problems = followed(tmp_path, steps, empty=True)
    assert models.offers == ["a"]
    assert [problem.rpartition(" has ")[2] for problem in problems] == ["no model_config_list"]


def test_a_file_is_offered_once_and_again_when_it_changes(tmp_path: Path) -> None:
    async def steps(file: Path, models: Models) -> None:
        await some_looks(models)
        says(file, named("b"))
        await until(lambda: len(models.offers) > 1)
        await some_looks(models)

    models, problems = followed(tmp_path, steps)
    assert (models.offers, problems) == (["a", "b"], [])


def test_what_cannot_be_offered_is_tried_again_and_told_once(tmp_path: Path) -> None:
    async def steps(file: Path, models: Models) -> None:
        models.problem = unavailable("no version there")
        says(file, named("b"))
        await until(lambda: models.offers.count("b") > 3)
        models.problem = None
        tried = len(models.offers)
        await until(lambda: len(models.offers) > tried)
        await some_looks(models)

    models, problems = followed(tmp_path, steps)
    assert problems == ["no version there"]
    assert set(models.offers[1:]) == {"b"}


def test_a_reload_over_grpc_is_not_cut_short_by_what_failed_before_it(tmp_path: Path) -> None:
    async def steps(file: Path, models: Models) -> None:
        models.problem = unavailable("no version there")
        says(file, named("b"))
        await until(lambda: "b" in models.offers)
        models.reloading = True
        await some_looks(models)
        tried = len(models.offers)
        await some_looks(models)
        assert len(models.offers) == tried
        says(file, named("c"))  # a change is followed all the same
        await until(lambda: "c" in models.offers)

    followed(tmp_path, steps)


def test_what_failed_is_not_tried_again_once_a_reload_over_grpc_has_succeeded_until_the_file_changes(
    tmp_path: Path,
) -> None:
    async def steps(file: Path, models: Models) -> None:
        models.problem = unavailable("no version there")
        says(file, named("b"))
        await until(lambda: models.offers.count("b") > 1)
        models.reloaded += 1
        await some_looks(models)
        tried = len(models.offers)
        for _ in range(3):
            await some_looks(models)
        assert len(models.offers) == tried
        says(file, named("c"))
        await until(lambda: models.offers.count("c") > 1)

    followed(tmp_path, steps)


def test_what_another_configuration_came_after_is_neither_a_problem_nor_tried_again(tmp_path: Path) -> None:
    async def steps(file: Path, models: Models) -> None:
        models.problem = SUPERSEDED
        models.reloading = True  # by the one that came after it
        says(file, named("b"))
        await until(lambda: "b" in models.offers)
        models.reloading, models.reloaded = False, models.reloaded + 1
        await some_looks(models)

    models, problems = followed(tmp_path, steps)
    assert (models.offers, problems) == (["a", "b"], [])


def test_what_another_configuration_came_after_that_failed_is_offered_again(tmp_path: Path) -> None:
    async def steps(file: Path, models: Models) -> None:
        models.problem, models.reloading = SUPERSEDED, True
        says(file, named("b"))
        await until(lambda: "b" in models.offers)
        models.problem, models.reloading = None, False
        await until(lambda: models.offers.count("b") == 2)
        await some_looks(models)

    models, problems = followed(tmp_path, steps)
    assert (models.offers, problems) == (["a", "b", "b"], [])


def test_what_a_reload_that_succeeded_came_after_is_not_offered_again_however_late_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(file: Path, models: Models) -> None:
        told = asyncio.Event()

        async def late(offered: Sequence[ModelConfig]) -> None:
            models.offers.append(offered[0].name)
            await told.wait()
            raise SUPERSEDED

        monkeypatch.setattr(models, "reload", late)
        says(file, named("b"))
        await until(lambda: "b" in models.offers)
        models.reloaded += 1
        await some_looks(models)
        told.set()
        await some_looks(models)
        await some_looks(models)

    models, _ = followed(tmp_path, steps)
    assert models.offers == ["a", "b"]


def test_where_no_thread_can_be_had_the_file_is_read_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def steps(file: Path, models: Models) -> None:
        async def none_there(*_: Any, **__: Any) -> Any:
            models.looks += 1
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patched:
            patched.setattr(asyncio, "to_thread", none_there)
            await some_looks(models)
        says(file, named("b"))
        await until(lambda: "b" in models.offers)

    _, problems = followed(tmp_path, steps)
    assert [problem.partition(" now ")[2] for problem in problems] == ["(RuntimeError: can't start new thread)"]


def test_nonsense_that_comes_back_is_told_again(tmp_path: Path) -> None:
    async def steps(file: Path, models: Models) -> None:
        for content in ("nonsense", named("a"), "nonsense"):
            says(file, content)
            await some_looks(models)
        assert models.offers == ["a"]

    _, problems = followed(tmp_path, steps)
    assert ["nonsense" in each or "ModelServerConfig" in each for each in problems] == [True, True]
