"""Runs one worker: checks its surroundings, starts the Faust application, and ends it in order.

Faust's own command is not used: it would configure logging and exit statuses of its own.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from earshot.command import fail
from earshot.logs import get_log

if TYPE_CHECKING:
    from processors.settings import ProcessorSettings

log = get_log(__name__)

_STOP_S = 20.0
"""Longest that a stop waits for Faust, which can hang in a rebalance that went wrong."""


class WorkerFailed(RuntimeError):
    """Faust ended by itself; the log has its reason."""


def run(settings: ProcessorSettings) -> None:
    """Turn segments from Kafka into labels, until SIGTERM or Ctrl-C."""
    from processors.checks import NotReady
    from processors.predictor import WrongModel

    try:
        asyncio.run(_run(settings))
    except (NotReady, WrongModel) as error:
        raise fail(error) from None
    except WorkerFailed as error:
        log.error("worker failed", reason=str(error))  # noqa: TRY400  Faust has logged the traceback
        raise SystemExit(1) from None


async def _run(settings: ProcessorSettings) -> None:
    from processors.checks import check_broker, check_port

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    check_port(settings.web_host, settings.web_port)
    topics = (settings.segments_topic, settings.labels_topic, settings.dead_letters_topic)
    checks = asyncio.ensure_future(check_broker(settings.bootstrap_servers, topics, wait_s=settings.broker_wait_s))
    if await _first(checks, stop):
        await _work(settings, stop)


async def _work(settings: ProcessorSettings, stop: asyncio.Event) -> None:
    from processors.app import add_agent, add_readiness, create_app, publisher, unharmed
    from processors.labeller import Labeller
    from processors.predictor import Predictor

    app = create_app(settings)
    predictor = Predictor(
        settings.model_server,
        settings.model_name,
        timeout_s=settings.predict_timeout_s,
        retry_budget_s=settings.retry_budget_s,
    )
    labeller = Labeller(settings, predictor, publisher(app, settings.dead_letters_topic))
    add_agent(app, settings, labeller)
    add_readiness(app, labeller)

    async def serve() -> None:
        await app.start()
        await app.wait_until_stopped()
        raise WorkerFailed(repr(app.crash_reason))

    log.info("starting", bootstrap_servers=settings.bootstrap_servers, model_server=settings.model_server)
    labelling = asyncio.ensure_future(labeller.run())
    serving = asyncio.ensure_future(serve())
    try:
        await _first(labelling, serving, stop)
    finally:
        log.info("stopping")
        await unharmed(app.stop(), _STOP_S, "stop")
        for task in (labelling, serving):
            task.cancel()
        await asyncio.gather(labelling, serving, return_exceptions=True)
        await predictor.close()
    log.info("stopped")


async def _first(*awaited: asyncio.Future[None] | asyncio.Event) -> bool:
    """Wait for the first of `awaited`, raise what it raised; True where it was not an event."""
    tasks = [asyncio.ensure_future(one.wait()) if isinstance(one, asyncio.Event) else one for one in awaited]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    ended = done.pop()
    ended.result()
    return ended in awaited
