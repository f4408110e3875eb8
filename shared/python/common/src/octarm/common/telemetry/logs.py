"""Structured logs: one JSON object a line on stderr, with trace, task and correlation ids."""

import json
import logging
import sys
from typing import Any, Final

import structlog
from structlog.typing import EventDict, WrappedLogger

from octarm.common.redaction import redact, redact_json
from octarm.common.redaction.secrets import is_secret_name
from octarm.common.telemetry import traceparents

MASK: Final = "***"
LONGEST: Final = 20_000
# Ours and bounded: these are never somebody's text.
_OWN: Final = frozenset({"level", "timestamp", "service", "logger", "trace_id", "correlation_id"})


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


def _redacted(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Take out what looks like a secret or like personal data, wherever it stands."""
    for name, value in event.items():
        if is_secret_name(name):
            event[name] = MASK
        elif name not in _OWN and value is not None and not isinstance(value, int | float):
            event[name] = _clean(value)
    return event


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value[:LONGEST]).text
    try:
        return redact_json(json.loads(json.dumps(value, default=str)[:LONGEST]))[0]
    except (TypeError, ValueError, RecursionError):
        return redact(repr(value)[:LONGEST]).text


def _named(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Give a trace context by the id under which one looks for it."""
    traceparent = event.pop("traceparent", "")
    if len(traceparent) == traceparents.CHARS:
        event["trace_id"] = traceparents.trace_id(traceparent)
    return event


def _of_a_library(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Keep event names few: what a library says is a message, not a name."""
    return {**event, "event": "library_message", "message": event["event"]}


def setup_logs(service: str, level: str) -> None:
    """Send every log line, ours and the libraries', to stderr as JSON.

    Every line says when, how bad, which service, and one event name; what is known of trace,
    task, arm and request stands in fields of these names. JSON escapes control characters, so
    nothing a user wrote can forge a line or colour a terminal.
    """
    number = getattr(logging, level.upper())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        lambda _, __, event: {**event, "service": service},
        _named,
        structlog.processors.format_exc_info,
        _redacted,
    ]
    foreign = [structlog.stdlib.add_logger_name, _of_a_library, *shared]
    structlog.configure(
        processors=[
            *shared,
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
            foreign_pre_chain=foreign,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))
