"""Structured logs: one line an event, dotted names, the request id on each (STYLE.md, Names)."""

from __future__ import annotations

import logging.config
import os
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from kalshi_site.observability import request_id

_SECRET_WORDS = ("password", "secret", "token", "authorization", "signature", "private_key", "cookie")


def add_context(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add the process name and, inside a request or task, its id."""
    event.setdefault("process", os.environ.get("KALSHI_PROCESS", "command"))
    if current := request_id.get():
        event.setdefault("request_id", current)
    return event


def hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace values whose key names a secret."""
    for key in event:
        if any(word in key.lower() for word in _SECRET_WORDS):
            event[key] = "hidden"
    return event


def django_logging(*, level: str, style: str) -> dict[str, Any]:
    """Configure structlog and the standard library alike; returns the dictConfig that was applied."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_context,
        hide_secrets,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    config = _standard(level, "json" if style == "json" else "console", shared)
    logging.config.dictConfig(config)
    return config


def _standard(level: str, style: Literal["json", "console"], shared: list[Processor]) -> dict[str, Any]:
    last: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if style == "json":
        last += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        # Plain tracebacks: a frame's local variables would write tokens and answers into the log.
        last += [
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
        ]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "desk": {
                "()": structlog.stdlib.ProcessorFormatter,
                "processors": last,
                "foreign_pre_chain": shared,
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "desk"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            # One line a request is the reverse proxy's work; ours would bury the desk's own events.
            "django.channels.server": {"level": "WARNING"},
            "daphne": {"level": "WARNING"},
            "httpx": {"level": "WARNING"},
            "celery.app.trace": {"level": "WARNING"},
            "celery.worker.strategy": {"level": "WARNING"},
            "celery.beat": {"level": "WARNING"},
        },
    }
