"""The models' file while the server runs: what it says is offered, whenever that has changed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from earshot.logs import get_log
from serving.modelserver.errors import ServingError
from serving.modelserver.model_config import InvalidConfig, read_models

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from serving.modelserver.model_config import ModelConfig
    from serving.modelserver.servables import Servables

log = get_log(__name__)


class ConfigFollower:
    """Follows one file; a problem with it is logged once, however long it stays."""

    def __init__(
        self,
        file: Path,
        servables: Servables,
        offered: Sequence[ModelConfig],
        poll_s: float,
        beside: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        """offered: the models that the file named when the server started. beside: runs an offer beside all else."""
        self._file, self._servables, self._poll_s, self._beside = file, servables, poll_s, beside
        self._offered: Sequence[ModelConfig] = offered
        self._told = ""

    async def run(self) -> None:
        """Read the file again and again, until cancelled."""
        while True:
            await asyncio.sleep(self._poll_s)
            try:
                models = await asyncio.to_thread(read_models, self._file)
            except InvalidConfig as error:
                self._tell(str(error))
                continue
            if models != self._offered:
                # A file that changes while its models load is followed at once, so an offer is not waited for.
                self._offered = models
                self._beside(self._offer(models))

    async def _offer(self, models: Sequence[ModelConfig]) -> None:
        try:
            await self._servables.reload(models)
        except ServingError as error:
            self._tell(error.message)
            if self._offered is models:
                self._offered = ()  # the next look tries them again
            return
        self._told = ""
        log.info("models offered as the file says", models=[model.name for model in models])

    def _tell(self, problem: str) -> None:
        if problem != self._told:
            log.warning("the models' file cannot be followed, trying again", error=problem)
        self._told = problem
