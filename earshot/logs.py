"""Logs: structlog for Earshot's own lines and the standard library's for its dependencies, in one format on stderr."""

from __future__ import annotations

import logging
import sys
import time

import structlog

OWN = ("earshot", "producers", "processors", "serving", "training", "local")
"""Packages whose lines are Earshot's own."""
REPEATED_S = 30.0
"""Seconds before a dependency logs the same again: aiokafka says fifty lines a second while a broker is away."""
_MOST_MESSAGES = 1000


class _Sparing(logging.Filter):
    """Lets each message of a dependency, whatever its figures, through once in `REPEATED_S`; Earshot's own always."""

    def __init__(self) -> None:
        super().__init__()
        self._until_s: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] in OWN:
            return True
        message, now = (record.name, str(record.msg)), time.monotonic()
        if now < self._until_s.get(message, 0.0):
            return False
        if len(self._until_s) >= _MOST_MESSAGES:
            self._until_s.clear()
        self._until_s[message] = now + REPEATED_S
        return True


def configure_logs(level: str = "info", *, json: bool = False) -> None:
    """Send all logs of this process to stderr from `level` up, as readable lines or one JSON object a line.

    Dependencies are heard from `warning` up, and each of their messages at most twice a minute, unless `level` is
    `debug`; kafka-python only then, as it logs tracebacks for as long as a broker is away, and every command says that
    in a line of its own.
    """
    before: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Plain tracebacks: the renderer's own show local variables, sound and settings among them, in boxes.
    readable = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer() if json else readable
    last: list[structlog.typing.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if json:
        last.append(structlog.processors.format_exc_info)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=before, processors=[*last, renderer]))
    if level != "debug":
        handler.addFilter(_Sparing())
    logging.basicConfig(handlers=[handler], level=level.upper() if level == "debug" else "WARNING", force=True)
    logging.getLogger("kafka").setLevel(logging.DEBUG if level == "debug" else logging.CRITICAL)
    for package in OWN:
        logging.getLogger(package).setLevel(level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *before,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def get_log(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module, called with its `__name__`; events are words, figures are keywords."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
