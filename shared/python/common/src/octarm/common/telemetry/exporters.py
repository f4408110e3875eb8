"""Where spans go: nowhere, the console, files, or a collector by OTLP over HTTP.

A span is kept as it was measured, and written out by a thread: whoever ends one does not wait.
"""

import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit, urlunsplit

import msgspec
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags

from octarm.common.redaction import redact
from octarm.common.telemetry import conventions
from octarm.common.telemetry.conventions import Attribute

OTLP_PATH: Final = "/v1/traces"
EVERY_S: Final = 0.5
AT_ONCE: Final = 512
# Beyond it the newest are lost: a collector that is away costs spans, not memory.
MOST_WAITING: Final = 50_000
MOST_TEXT: Final = 500
LAST_WAIT_S: Final = 10.0

_encode = msgspec.json.Encoder().encode


class Finished(msgspec.Struct, frozen=True, gc=False):
    """A span as it was measured; times are Unix nanoseconds."""

    name: str
    parent: str
    """The traceparent that it hangs below."""
    span_id: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Attribute]
    error: str = ""

    def named(self) -> dict[str, Attribute]:
        """Give its attributes as conventions call them; free text is without secrets."""
        found: dict[str, Attribute] = {**conventions.step(self.name).attributes}
        for name, value in self.attributes.items():
            if (known := conventions.NAMES.get(name)) is not None:
                found[known] = value
            else:
                plain = value if isinstance(value, int | float) else _shown(str(value)[:MOST_TEXT])
                found[conventions.FREE_TEXT.get(name, name)] = plain
        if self.error:
            found[conventions.ERROR_TYPE] = self.error[:100]
        if self.parent[-1] != "1":
            found[conventions.SAMPLED] = False
        return found


@lru_cache(1024)
def _shown(text: str) -> str:
    # What no UTF-8 can hold would be in nobody's way but ours.
    return redact(text).text.encode("utf-8", "replace").decode()


class Exporter(Protocol):
    """Takes batches of spans; what it cannot get rid of is lost."""

    def export(self, spans: Sequence[Finished]) -> None:
        """Write them."""
        ...

    def close(self) -> None:
        """Release what it holds."""
        ...


class FileExporter:
    """Appends each span as one JSON object a line to `<folder>/<service>-<pid>.jsonl`."""

    def __init__(self, folder: Path, service: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{service}-{os.getpid()}.jsonl"
        self._service = service

    def export(self, spans: Sequence[Finished]) -> None:
        """Write them; a disk that is full or gone costs the spans and nothing else."""
        lines = b"".join(_encode(self._row(span)) + b"\n" for span in spans)
        try:
            with self._path.open("ab") as file:
                file.write(lines)
        except OSError:
            return

    def close(self) -> None:
        """Nothing stays open."""

    def _row(self, span: Finished) -> dict[str, Any]:
        step, parent_id = conventions.step(span.name), span.parent[36:52]
        return {
            "trace_id": span.parent[3:35],
            "span_id": span.span_id,
            "parent_id": parent_id,
            "name": span.name,
            "kind": step.kind_name,
            "service": self._service,
            "start_ns": span.start_ns,
            "end_ns": span.end_ns,
            "attributes": span.named(),
            "links": [parent_id] if step.reads_messages else [],
            "status": "ERROR" if span.error else "UNSET",
        }


class SdkExporter:
    """Hands spans to one of OpenTelemetry's own exporters."""

    def __init__(self, exporter: SpanExporter, resource: Resource) -> None:
        self._exporter = exporter
        self._resource = resource
        self._scope = InstrumentationScope("octarm", schema_url=conventions.SCHEMA_URL)

    def export(self, spans: Sequence[Finished]) -> None:
        """Send them; it logs what it cannot send."""
        self._exporter.export([self._readable(span) for span in spans])

    def close(self) -> None:
        """Close its connections."""
        self._exporter.shutdown()

    def _readable(self, span: Finished) -> ReadableSpan:
        step, trace_id = conventions.step(span.name), int(span.parent[3:35], 16)
        flags = TraceFlags(TraceFlags.SAMPLED)
        parent = SpanContext(trace_id, int(span.parent[36:52], 16), True, flags)
        return ReadableSpan(
            span.name,
            context=SpanContext(trace_id, int(span.span_id, 16), False, flags),
            parent=parent,
            resource=self._resource,
            attributes=span.named(),
            links=[Link(parent)] if step.reads_messages else (),
            kind=step.kind,
            status=Status(StatusCode.ERROR, span.error[:200]) if span.error else Status(),
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=self._scope,
        )


class Outbox:
    """Spans on their way to an exporter, in the order of their ends."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter
        self._waiting: deque[Finished] = deque()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="octarm-spans", daemon=True)
        self._thread.start()

    def put(self, span: Finished) -> None:
        """Take a span; never waits."""
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(span)

    def close(self) -> None:
        """Export what is left; at most a few seconds."""
        self._closed.set()
        self._thread.join(LAST_WAIT_S)

    def _run(self) -> None:
        while not self._closed.wait(EVERY_S):
            self._export()
        self._export()
        self._exporter.close()

    def _export(self) -> None:
        while self._waiting:
            some = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
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
        return SdkExporter(ConsoleSpanExporter(), _resource(named))
    if kind == "otlp" and target:
        # Loaded when it is asked for: it brings protobuf and an HTTP client with it.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return SdkExporter(OTLPSpanExporter(endpoint=otlp_endpoint(target)), _resource(named))
    raise ValueError("trace_export must be none, console, file:<folder> or otlp:<url>")


def _resource(named: Mapping[str, str]) -> Resource:
    return Resource.create(dict(named), schema_url=conventions.SCHEMA_URL)


def otlp_endpoint(url: str) -> str:
    """Give where spans are posted: a collector's URL without a path gets the standard one."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=OTLP_PATH)) if parts.path in {"", "/"} else url
