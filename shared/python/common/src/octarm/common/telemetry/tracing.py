"""Tracing by W3C trace context: a span per hop, and only for traces that are sampled.

A task carries its `traceparent` as text. What is not sampled costs one look at its last two
characters; nothing else is made. The SDK is loaded when the first sampled span ends.
"""

import json
import os
import random
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.trace import Span as OtelSpan

_TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
Attribute = str | int | float | bool


class _Tracing:
    provider: TracerProvider | None = None
    sample: float = 0.0


_state = _Tracing()


class FileSpanExporter(SpanExporter):
    """Appends each span as one JSON object a line to `<folder>/<service>-<pid>.jsonl`."""

    def __init__(self, folder: Path, service: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{service}-{os.getpid()}.jsonl"
        self._service = service

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write the spans and flush them."""
        with self._path.open("a", encoding="utf-8") as file:
            for span in spans:
                file.write(json.dumps(self._row(span)) + "\n")
        return SpanExportResult.SUCCESS

    def _row(self, span: ReadableSpan) -> dict[str, Any]:
        context = span.get_span_context()
        return {
            "trace_id": f"{context.trace_id:032x}" if context else "",
            "span_id": f"{context.span_id:016x}" if context else "",
            "parent_id": f"{span.parent.span_id:016x}" if span.parent else "",
            "name": span.name,
            "service": self._service,
            "start_ns": span.start_time,
            "end_ns": span.end_time,
            "attributes": dict(span.attributes or {}),
            "status": span.status.status_code.name,
        }


def setup_tracing(service: str, export: str, *, sample: float) -> None:
    """Choose where spans go: `none`, `console`, `file:<folder>` or `otlp:<url>`.

    Raises:
        ValueError: `export` is none of these.
    """
    _state.sample = sample
    exporter = _exporter(service, export)
    if exporter is None:
        _state.provider = None
        return
    resource = Resource.create({"service.name": f"octarm-{service}"})
    provider = TracerProvider(resource=resource, span_limits=SpanLimits(max_attributes=32))
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=500))
    _state.provider = provider


def _exporter(service: str, export: str) -> SpanExporter | None:
    kind, _, target = export.partition(":")
    if kind == "none":
        return None
    if kind == "console":
        return ConsoleSpanExporter()
    if kind == "file" and target:
        return FileSpanExporter(Path(target), service)
    if kind == "otlp" and target:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter(endpoint=target)
    raise ValueError("trace_export must be none, console, file:<folder> or otlp:<url>")


def shutdown() -> None:
    """Export what is left; at most a few seconds."""
    if _state.provider is not None:
        _state.provider.shutdown()
        _state.provider = None


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

    Times are Unix nanoseconds. Gives `parent` back when the trace is not sampled or this
    process exports nothing.
    """
    if not is_sampled(parent) or _state.provider is None:
        return parent
    finished = _start(_state.provider, name, parent, start_ns=start_ns, attributes=attributes)
    if error:
        finished.set_status(Status(StatusCode.ERROR, error[:200]))
    finished.end(end_ns or time.time_ns())
    return _traceparent(finished)


def _start(
    provider: TracerProvider,
    name: str,
    parent: str,
    *,
    start_ns: int | None,
    attributes: dict[str, Attribute],
) -> OtelSpan:
    context = SpanContext(
        int(parent[3:35], 16), int(parent[36:52], 16), is_remote=True, trace_flags=TraceFlags(1)
    )
    return provider.get_tracer("octarm").start_span(
        name,
        context=set_span_in_context(NonRecordingSpan(context)),
        start_time=start_ns,
        attributes=attributes,
    )


def _traceparent(span: OtelSpan) -> str:
    own = span.get_span_context()
    return f"00-{own.trace_id:032x}-{own.span_id:016x}-01"


class Span:
    """A span under way; `traceparent` is what the next hop gets."""

    __slots__ = ("error", "traceparent")

    def __init__(self, traceparent: str) -> None:
        self.traceparent = traceparent
        self.error = ""


@contextmanager
def span(name: str, parent: str, **attributes: Attribute) -> Iterator[Span]:
    """Measure a block below `parent`; costs nothing when the trace is not sampled."""
    current = Span(parent)
    if not is_sampled(parent) or _state.provider is None:
        yield current
        return
    started = _start(_state.provider, name, parent, start_ns=None, attributes=attributes)
    current.traceparent = _traceparent(started)
    try:
        yield current
    except BaseException as error:
        current.error = type(error).__name__
        raise
    finally:
        if current.error:
            started.set_status(Status(StatusCode.ERROR, current.error[:200]))
        started.end()
