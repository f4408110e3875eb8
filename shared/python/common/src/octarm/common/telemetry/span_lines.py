"""Spans as JSON, one object a line: what `octarm trace` reads."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from octarm.common.telemetry import conventions, traceparents
from octarm.common.telemetry.conventions import Attribute
from octarm.common.telemetry.spans import Finished, Hop, finished, linked

_write = msgspec.json.Encoder().encode_into


class Line(msgspec.Struct, gc=False):
    """A span as files have it."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    service: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Attribute]
    links: list[str]
    """The ids of spans; of another trace as trace_id-span_id."""
    status: str


class FileExporter:
    """Appends each span as one JSON object a line to `<folder>/<service>-<pid>.jsonl`."""

    def __init__(self, folder: Path, service: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{service}-{os.getpid()}.jsonl"
        self._service = service

    def export(self, spans: Sequence[Finished | Hop]) -> None:
        """Write them; a disk that is full or gone costs the spans and nothing else."""
        lines = bytearray()
        for span in finished(spans):
            _write(self._line(span), lines, len(lines))
            lines += b"\n"
        try:
            with self._path.open("ab") as file:
                file.write(lines)
        except OSError:
            return

    def close(self) -> None:
        """Nothing stays open."""

    def _line(self, span: Finished) -> Line:
        parent = span.parent
        step = conventions.step(span.name)
        return Line(
            traceparents.trace_id(parent),
            span.span_id,
            traceparents.span_id(parent),
            span.name,
            step.kind_name,
            self._service,
            span.start_ns,
            span.end_ns,
            span.named(),
            [traceparents.link(each, parent) for each in linked(span)],
            "ERROR" if span.error else "UNSET",
        )
