"""Structured logs: one JSON object a line on stderr, with trace, task and correlation ids."""

import logging
import sys
from typing import Any, Final

import structlog
from structlog.typing import EventDict, WrappedLogger

SECRET_NAMES: Final = ("password", "secret", "token", "api_key", "authorization", "credential")


class UnfailingLogger(structlog.PrintLogger):
    """Loses a line that cannot be written: a full disk must not end the work that it tells of."""

    def msg(self, message: str) -> None:
        """Write a line."""
        try:
            super().msg(message)
        except OSError:
            return

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


def get_logger() -> Any:
    """Give the logger; event names are snake_case, everything else goes into fields."""
    return structlog.get_logger()


def _redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    for name in event:
        if any(secret in name.lower() for secret in SECRET_NAMES) and name != "tokens_used":
            event[name] = "***"
    return event


def setup_logs(service: str, level: str) -> None:
    """Send every log line, ours and the libraries', to stderr as JSON.

    JSON escapes control characters, so nothing a user wrote can forge a line or colour a
    terminal.
    """
    number = getattr(logging, level.upper())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _redact,
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            *shared,
            lambda _, __, event: {**event, "service": service},
            structlog.processors.JSONRenderer(ensure_ascii=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: UnfailingLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(ensure_ascii=True),
            ],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))
