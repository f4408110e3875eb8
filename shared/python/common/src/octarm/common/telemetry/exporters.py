"""Where spans go: nowhere, the console, files, or a collector by OTLP over HTTP."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter, SpanExportResult

OTLP_PATH: Final = "/v1/traces"


class FileSpanExporter(SpanExporter):
    """Appends each span as one JSON object a line to `<folder>/<service>-<pid>.jsonl`."""

    def __init__(self, folder: Path, service: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{service}-{os.getpid()}.jsonl"
        self._service = service

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write the spans; what a full disk does not take is lost, and said to be."""
        lines = "".join(json.dumps(self._row(span)) + "\n" for span in spans)
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(lines)
        except OSError:
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def _row(self, span: ReadableSpan) -> dict[str, Any]:
        context = span.get_span_context()
        return {
            "trace_id": f"{context.trace_id:032x}" if context else "",
            "span_id": f"{context.span_id:016x}" if context else "",
            "parent_id": f"{span.parent.span_id:016x}" if span.parent else "",
            "name": span.name,
            "kind": span.kind.name.lower(),
            "service": self._service,
            "start_ns": span.start_time,
            "end_ns": span.end_time,
            "attributes": dict(span.attributes or {}),
            "links": [f"{link.context.span_id:016x}" for link in span.links],
            "status": span.status.status_code.name,
        }


def exporter_for(service: str, export: str) -> SpanExporter | None:
    """Make the exporter that a setting names: `none`, `console`, `file:FOLDER`, `otlp:URL`.

    Raises:
        ValueError: it is none of these.
    """
    kind, _, target = export.partition(":")
    if kind == "none":
        return None
    if kind == "console":
        return ConsoleSpanExporter()
    if kind == "file" and target:
        return FileSpanExporter(Path(target), service)
    if kind == "otlp" and target:
        # Loaded when it is asked for: it brings protobuf and an HTTP client with it.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter(endpoint=otlp_endpoint(target))
    raise ValueError("trace_export must be none, console, file:<folder> or otlp:<url>")


def otlp_endpoint(url: str) -> str:
    """Give where spans are posted: a collector's URL without a path gets the standard one."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=OTLP_PATH)) if parts.path in {"", "/"} else url
