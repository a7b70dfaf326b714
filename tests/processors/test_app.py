"""What the Faust application adds to Faust; its agent at work is in test_worker.py."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from processors.app import add_agent
from processors.settings import ProcessorSettings

if TYPE_CHECKING:
    import faust


class Batch:
    """Stands in for the labeller: it has one batch in hand, which is acknowledged when it is waited for."""

    acknowledged = False

    async def finish(self, timeout_s: float) -> None:
        self.acknowledged = True

    settle = finish


@pytest.mark.parametrize("moment", ["on_before_shutdown", "on_partitions_revoked"])
def test_given_a_commit_under_way_when_a_worker_lets_go_then_the_batch_in_hand_is_committed_after_it(
    app: faust.App, moment: str
) -> None:
    # Faust's commit, when another one runs, only waits for it: that one began before the batch was acknowledged.
    async def run() -> list[bool]:
        batch = Batch()
        add_agent(app, ProcessorSettings.model_validate({}), batch)  # type: ignore[arg-type]
        committed: list[bool] = []

        async def force_commit(*_: Any, **__: Any) -> bool:
            with_batch = batch.acknowledged
            await asyncio.sleep(0.05)
            committed.append(with_batch)
            return True

        app.consumer.force_commit = force_commit  # what talks to the broker; all before it is Faust's own
        under_way = asyncio.ensure_future(app.consumer.commit())
        await asyncio.sleep(0)
        await getattr(app, moment).send(*[set()] * (moment == "on_partitions_revoked"))
        await under_way
        return committed

    assert asyncio.run(run()) == [False, True]
