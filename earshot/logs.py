"""Logs: structlog for Earshot's own lines and the standard library's for its dependencies, in one format on stderr."""

from __future__ import annotations

import logging
import sys

import structlog


def configure_logs(level: str = "info", *, json: bool = False) -> None:
    """Send all logs of this process to stderr from `level` up, as readable lines or one JSON object a line.

    Dependencies are heard from `warning` up unless `level` is `debug`; kafka-python only then, as it logs several
    lines a second, with tracebacks, for as long as a broker is away, and every command says that in one of its own.
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
    logging.basicConfig(handlers=[handler], level=level.upper() if level == "debug" else "WARNING", force=True)
    logging.getLogger("kafka").setLevel(logging.DEBUG if level == "debug" else logging.CRITICAL)
    for package in ("earshot", "producers", "processors", "serving", "training", "local"):
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
        cache_logger_on_first_use=True,
    )


def get_log(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module, called with its `__name__`; events are words, figures are keywords."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
