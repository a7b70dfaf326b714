"""The models' file while the server runs: what it says is offered, whenever that has changed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc

from earshot.logs import get_log
from serving.modelserver.errors import ServingError
from serving.modelserver.model_config import InvalidConfig, read_models

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from serving.modelserver.model_config import ModelConfig
    from serving.modelserver.servables import Servables

log = get_log(__name__)

MOST_LOOKS = 8
"""Between two tries to offer what could not be offered: each of them loads what can be loaded, and for nothing."""


class ConfigFollower:
    """Follows one file; a problem with it is logged once, however long it stays.

    What cannot be offered is tried again at the next look, then after two, four and at last `MOST_LOOKS` of them. A
    reload that came over gRPC stands until the file changes.
    """

    def __init__(
        self,
        file: Path,
        servables: Servables,
        offered: Sequence[ModelConfig],
        poll_s: float,
        beside: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        """offered: the models that the file named when the server started.

        beside: starts an offer as a task of its own, and does not wait for it.
        """
        self._file, self._servables, self._poll_s, self._beside = file, servables, poll_s, beside
        self._offered: Sequence[ModelConfig] = offered
        self._failures = 0
        """In a row, of the models that were offered last."""
        self._looks_left = 0
        """Until these are offered again."""
        self._unreadable, self._refused = "", ""
        self._reloaded = servables.reloaded

    async def run(self) -> None:
        """Read the file again and again, until cancelled."""
        while True:
            await asyncio.sleep(self._poll_s)
            try:
                # A file that named none is not one that is half written.
                models = await asyncio.to_thread(read_models, self._file, may_be_empty=not self._offered)
            except InvalidConfig as error:
                self._unreadable = _told(str(error), self._unreadable)
                continue
            except (MemoryError, RuntimeError) as error:  # no memory, or no thread: it may pass
                self._unreadable = _told(
                    f"cannot read {self._file} now ({type(error).__name__}: {error})", self._unreadable
                )
                continue
            self._unreadable = ""
            self._looks_left -= 1
            if self._servables.reloaded != self._reloaded:
                self._failures, self._reloaded = 0, self._servables.reloaded  # what came meanwhile stands
            # Another's reload is not to be cut short by it, and it is offered once at a time.
            again = self._failures and self._looks_left <= 0 and not self._servables.reloading
            if models != self._offered or again:
                # A file that changes while its models load is followed at once, so an offer is not waited for.
                self._failures = self._failures if again else 0
                self._offered = models
                self._beside(self._offer(models))

    async def _offer(self, models: Sequence[ModelConfig]) -> None:
        before = self._servables.reloaded
        try:
            await self._servables.reload(models)
        except (ServingError, MemoryError, RuntimeError) as error:
            # That another came after it is no fault, and what came stands if it succeeded.
            aborted = isinstance(error, ServingError) and error.code is grpc.StatusCode.ABORTED
            if not aborted:
                self._refused = _told(str(error), self._refused)
            if self._offered is models and not (aborted and self._servables.reloaded != before):
                self._looks_left = min(2**self._failures, MOST_LOOKS)
                self._failures += 1
            return
        self._failures, self._refused = 0, ""
        log.info("models offered as the file says", models=[model.name for model in models])


def _told(problem: str, before: str) -> str:
    """Log a problem, if it is not the one that was logged `before`; returns it."""
    if problem != before:
        log.warning("the models' file cannot be followed, trying again", error=problem)
    return problem
