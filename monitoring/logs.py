"""Logs: one JSON object a line on standard error, with the request's id where there is one."""

import logging
import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import orjson
import structlog

from monitoring.tracing import current_trace_id

SOCKETS = "uvicorn.sockets"  # the logger of WebSockets' connections


def configure_logs(process: str, level: str = "info") -> None:
    """Set up logging for this process, the standard library's loggers included; call it once, in `main`.

    Args:
        process: the name in every line's `process` field.
        level: debug, info, warning or error.
    """
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _named(process),
        _traced,
        _reported,
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
            foreign_pre_chain=shared,
        )
    )
    global _process
    _process = process
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("uvicorn.access", SOCKETS, "httpx", "httpcore", "botocore", "alembic.runtime.plugins"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger that names its module."""
    bound: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return bound


_process = "unknown"
_on_exception: Callable[[BaseException, structlog.types.EventDict], None] | None = None


def on_exception(report: Callable[[BaseException, structlog.types.EventDict], None] | None) -> None:
    """Have it called for each error that is logged with its stack, with the fields of the line; None: nobody is."""
    global _on_exception
    _on_exception = report


def write_line(level: int, event: str, fields: Mapping[str, object]) -> None:
    """Write one line as the loggers do, at a sixth of their cost: for the line that every request has.

    Args:
        level: of `logging`; below the level in force nothing is written.
    """
    if not logging.root.isEnabledFor(level):
        return
    line = {
        **fields,
        "event": event,
        "level": logging.getLevelName(level).lower(),
        "timestamp": datetime.now(UTC),
        "process": _process,
    }
    os.write(2, orjson.dumps(line, default=str, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z))


def _traced(
    _logger: structlog.types.WrappedLogger, _method: str, event: structlog.types.EventDict
) -> structlog.types.EventDict:
    if trace_id := current_trace_id():
        event["trace_id"] = trace_id
    return event


def _reported(
    _logger: structlog.types.WrappedLogger, _method: str, event: structlog.types.EventDict
) -> structlog.types.EventDict:
    if _on_exception is not None and (told := event.get("exc_info")):
        error = told if isinstance(told, BaseException) else told[1] if isinstance(told, tuple) else sys.exception()
        if isinstance(error, BaseException):
            _on_exception(error, event)
    return event


def _named(process: str) -> structlog.types.Processor:
    def add(
        _logger: structlog.types.WrappedLogger, _method: str, event: structlog.types.EventDict
    ) -> structlog.types.EventDict:
        event["process"] = process
        return event

    return add
