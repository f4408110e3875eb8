"""Tracing by W3C trace context: a span per hop of sampled tasks, and every error.

A task carries its `traceparent` as text. What is not sampled costs one look at its last two
characters; nothing else is made. An error is exported all the same, below the span that would
have been its parent, up to `MOST_ERRORS_PER_S`.
"""

import random
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)
from opentelemetry.trace import Span as OtelSpan

from octarm.common.redaction import redact
from octarm.common.telemetry import conventions
from octarm.common.telemetry.conventions import Attribute
from octarm.common.telemetry.exporters import exporter_for
from octarm.models.errors import OctarmError

_TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
# A fleet in which everything fails must not be slowed down by telling of it.
MOST_ERRORS_PER_S: Final = 50
MOST_TEXT: Final = 500


class Allowance:
    """How much more may be done in this second."""

    def __init__(self, per_s: int) -> None:
        self._per_s = per_s
        self._second = -1
        self._taken = 0

    def take(self, now_s: float) -> bool:
        """Tell whether one more may be, at a monotonic time in seconds."""
        if int(now_s) != self._second:
            self._second, self._taken = int(now_s), 0
        self._taken += 1
        return self._taken <= self._per_s


class _Tracing:
    provider: TracerProvider | None = None
    tracer: Tracer | None = None
    sample: float = 0.0
    errors = Allowance(MOST_ERRORS_PER_S)


_state = _Tracing()


def setup_tracing(service: str, export: str, *, sample: float, instance: str = "") -> None:
    """Choose where spans go: `none`, `console`, `file:<folder>` or `otlp:<url>`.

    Raises:
        ValueError: `export` is none of these.
    """
    _state.sample = sample
    exporter = exporter_for(service, export)
    if exporter is None:
        _state.provider = _state.tracer = None
        return
    named = {"service.name": f"octarm-{service}", "service.namespace": "octarm"}
    if instance:
        named["service.instance.id"] = instance
    resource = Resource.create(named, schema_url=conventions.SCHEMA_URL)
    provider = TracerProvider(resource=resource, span_limits=SpanLimits(max_attributes=32))
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=500))
    _state.provider = provider
    _state.tracer = provider.get_tracer("octarm", schema_url=conventions.SCHEMA_URL)


def shutdown() -> None:
    """Export what is left; at most a few seconds."""
    if _state.provider is not None:
        _state.provider.shutdown()
        _state.provider = _state.tracer = None


def valid(traceparent: str) -> bool:
    """Tell whether a text from outside is a W3C traceparent of version 00."""
    return _TRACEPARENT.fullmatch(traceparent) is not None


def is_sampled(traceparent: str) -> bool:
    """Tell whether spans of this trace are wanted."""
    return traceparent.endswith("1") and len(traceparent) == 55


# An id of zeros is no id (W3C Trace Context §3.2.2.3); this sets a bit in each of the two.
_NOT_ZERO: Final = 1 << 64 | 1


def root(sample: float | None = None) -> str:
    """Begin a trace; sampled with probability `sample` (default: the process's setting)."""
    share = _state.sample if sample is None else sample
    flag = 1 if random.random() < share else 0  # noqa: S311 - ids of traces are no secrets
    ids = f"{random.getrandbits(192) | _NOT_ZERO:048x}"
    return f"00-{ids[:32]}-{ids[32:]}-0{flag}"


class Span:
    """A span under way; `traceparent` is what the next hop gets. Set `error` to its kind."""

    __slots__ = ("_attributes", "_began_ns", "_name", "_otel", "_parent", "error", "traceparent")

    def __init__(
        self, name: str, parent: str, attributes: Mapping[str, Attribute], *, start_ns: int = 0
    ) -> None:
        self.error = ""
        self.traceparent = parent
        self._name, self._parent, self._attributes = name, parent, attributes
        self._began_ns = start_ns
        self._otel: OtelSpan | None = None
        if _state.tracer is None:
            return
        self._began_ns = start_ns or time.time_ns()
        if is_sampled(parent):
            self._otel = self._started(_state.tracer, attributes)
            own = self._otel.get_span_context()
            self.traceparent = f"00-{own.trace_id:032x}-{own.span_id:016x}-01"

    def put(self, **attributes: Attribute) -> None:
        """Add what is known only now."""
        if self._otel is not None:
            self._otel.set_attributes(_named(attributes))
        else:
            self._attributes = {**self._attributes, **attributes}

    def failed(self, error: BaseException) -> None:
        """Say what ended it; a server's span is not in error when the client is (HTTP's rule)."""
        is_server = conventions.step(self._name).kind is SpanKind.SERVER
        if is_server and isinstance(error, OctarmError):
            self.put(status=error.status)
            if error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                return
        self.error = self.error or type(error).__name__

    def end(self, end_ns: int | None = None) -> None:
        """Export it; of what is not sampled, only an error."""
        otel = self._otel
        if otel is None:
            otel = self._of_an_error()
        if otel is None:
            return
        if self.error:
            otel.set_attribute(conventions.ERROR_TYPE, self.error[:100])
            otel.set_status(Status(StatusCode.ERROR, self.error[:200]))
        otel.end(end_ns or time.time_ns())

    def _of_an_error(self) -> OtelSpan | None:
        if not self.error or _state.tracer is None or not valid(self._parent):
            return None
        if not _state.errors.take(time.monotonic()):
            return None
        otel = self._started(_state.tracer, self._attributes)
        otel.set_attribute(conventions.SAMPLED, False)
        return otel

    def _started(self, tracer: Tracer, attributes: Mapping[str, Attribute]) -> OtelSpan:
        parent = self._parent
        context = SpanContext(
            int(parent[3:35], 16), int(parent[36:52], 16), is_remote=True, trace_flags=TraceFlags(1)
        )
        step = conventions.step(self._name)
        return tracer.start_span(
            self._name,
            context=set_span_in_context(NonRecordingSpan(context)),
            kind=step.kind,
            links=[Link(context)] if step.reads_messages else None,
            start_time=self._began_ns,
            attributes={**step.attributes, **_named(attributes)},
        )


def _named(attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    """Give attributes their names by convention; free text is shown without secrets."""
    named: dict[str, Attribute] = {}
    for name, value in attributes.items():
        if (known := conventions.NAMES.get(name)) is not None:
            named[known] = value
        else:
            text = redact(value[:MOST_TEXT]).text if isinstance(value, str) else value
            named[conventions.FREE_TEXT.get(name, name)] = text
    return named


def begin(name: str, parent: str, **attributes: Attribute) -> Span:
    """Begin a span that ends elsewhere; whoever begins it calls `end`, once."""
    return Span(name, parent, attributes)


def record(
    name: str,
    parent: str,
    start_ns: int,
    end_ns: int | None = None,
    *,
    error: str = "",
    **attributes: Attribute,
) -> str:
    """Export a finished span below `parent` and give its own traceparent.

    Times are Unix nanoseconds; `error` is the kind of error, from a bounded set. Gives `parent`
    back when the trace is not sampled or this process exports nothing.
    """
    if _state.tracer is None or not (error or is_sampled(parent)):
        return parent
    span = Span(name, parent, attributes, start_ns=start_ns)
    span.error = error
    span.end(end_ns)
    return span.traceparent


@contextmanager
def span(name: str, parent: str, **attributes: Attribute) -> Iterator[Span]:
    """Measure a block below `parent`; costs next to nothing when the trace is not sampled."""
    current = Span(name, parent, attributes)
    try:
        yield current
    except BaseException as error:
        current.failed(error)
        raise
    finally:
        current.end()
