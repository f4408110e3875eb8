"""Where spans go: nowhere, the console, files, or a collector by OTLP over HTTP.

A span is kept as it was measured, and written out by a thread: whoever ends one does not wait.
"""

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import ConsoleSpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags

from octarm.common.telemetry import conventions, traceparents
from octarm.common.telemetry.span_lines import FileExporter
from octarm.common.telemetry.spans import Finished, Hop, finished, linked

# OTLP is posted when there are `AT_ONCE`, or as late as this, as OpenTelemetry's own exporters do:
# where few tasks are sampled, what tracing costs is how often each process posts.
OTLP_EVERY_S: Final = 5.0
EVERY_S: Final = 0.5
# Of some 400 bytes each, far below what collectors take; a request costs about a millisecond.
AT_ONCE: Final = 2048
# Beyond it the newest are lost: a collector that is away costs spans, not memory.
MOST_WAITING: Final = 50_000
LAST_WAIT_S: Final = 10.0
SCOPE: Final = InstrumentationScope("octarm", schema_url=conventions.SCHEMA_URL)
ANY: Final = Finished("any", f"00-{1:032x}-{1:016x}-01", f"{2:016x}", 0, 0, {})


class Exporter(Protocol):
    """Takes batches of spans; what it cannot get rid of is lost."""

    def export(self, spans: Sequence[Finished | Hop]) -> None:
        """Write them."""
        ...

    def close(self) -> None:
        """Release what it holds."""
        ...


class ConsoleExporter:
    """Shows spans on standard output, as OpenTelemetry's SDK does."""

    def __init__(self, resource: Resource) -> None:
        self._exporter = ConsoleSpanExporter()
        self._resource = resource

    def export(self, spans: Sequence[Finished | Hop]) -> None:
        """Print them."""
        self._exporter.export([readable(span, self._resource) for span in finished(spans)])

    def close(self) -> None:
        """Print what is left."""
        self._exporter.shutdown()


def readable(span: Finished, resource: Resource) -> ReadableSpan:
    """Make OpenTelemetry's object of a span."""
    step, parent = conventions.step(span.name), _context(span.parent)
    return ReadableSpan(
        span.name,
        context=SpanContext(parent.trace_id, int(span.span_id, 16), False, parent.trace_flags),
        parent=parent,
        resource=resource,
        attributes=span.named(),
        links=[Link(_context(each)) for each in linked(span)],
        kind=step.kind,
        status=Status(StatusCode.ERROR, span.error[:200]) if span.error else Status(),
        start_time=span.start_ns,
        end_time=span.end_ns,
        instrumentation_scope=SCOPE,
    )


def _context(traceparent: str) -> SpanContext:
    trace_id, span_id = traceparents.trace_id(traceparent), traceparents.span_id(traceparent)
    flags = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(int(trace_id, 16), int(span_id, 16), True, flags)


class Outbox:
    """Spans on their way to an exporter, in the order of their ends."""

    def __init__(self, exporter: Exporter, every_s: float = EVERY_S) -> None:
        self._exporter = exporter
        self._every_s = every_s
        self._waiting: deque[Finished | Hop] = deque()
        self._closed = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="octarm-spans", daemon=True)
        self._thread.start()

    def put(self, span: Finished | Hop) -> None:
        """Take a span; never waits."""
        waiting = len(self._waiting)
        if waiting < MOST_WAITING:
            self._waiting.append(span)
        if waiting == AT_ONCE:
            self._wake.set()

    def close(self) -> None:
        """Export what is left; at most a few seconds."""
        self._closed = True
        self._wake.set()
        self._thread.join(LAST_WAIT_S)

    def _run(self) -> None:
        while not self._closed:
            is_full = self._wake.wait(self._every_s)
            self._wake.clear()
            # While more come all the time, what is no full batch yet waits for the next.
            self._export(at_least=AT_ONCE if is_full else 1)
        self._export(at_least=1)
        self._exporter.close()

    def _export(self, at_least: int) -> None:
        waiting = self._waiting
        while len(waiting) >= at_least:
            some = [waiting.popleft() for _ in range(min(AT_ONCE, len(waiting)))]
            self._exporter.export(some)


def exporter_for(service: str, export: str, *, instance: str = "") -> Exporter | None:
    """Make the exporter that a setting names: `none`, `console`, `file:FOLDER`, `otlp:URL`.

    Raises:
        ValueError: it is none of these.
    """
    kind, _, target = export.partition(":")
    if kind == "none":
        return None
    if kind == "file" and target:
        return FileExporter(Path(target), service)
    named = {"service.name": f"octarm-{service}", "service.namespace": "octarm"}
    if instance:
        named["service.instance.id"] = instance
    if kind == "console":
        return ConsoleExporter(_resource(named))
    if kind == "otlp" and target:
        # Loaded when it is asked for: it brings protobuf and an HTTP client with it.
        from octarm.common.telemetry.otlp import OtlpExporter

        return OtlpExporter(target, readable(ANY, _resource(named)))
    raise ValueError("trace_export must be none, console, file:<folder> or otlp:<url>")


def _resource(named: Mapping[str, str]) -> Resource:
    return Resource.create(dict(named), schema_url=conventions.SCHEMA_URL)
