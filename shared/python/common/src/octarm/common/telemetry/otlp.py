"""Spans as OTLP has them, written straight as Protocol Buffers and posted to a collector.

Making OpenTelemetry's objects of each span and messages of these takes twenty times as long, in
the process that is traced. A test holds what is written here equal to what its SDK writes.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache
from os import environ
from typing import Final
from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

from opentelemetry.exporter.http.transport._urllib3 import Urllib3HTTPTransport
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from octarm.common.telemetry.conventions import NAMES, Attribute, step
from octarm.common.telemetry.spans import REMEMBERED, Finished, Hop, Spelling
from octarm.common.telemetry.traceparents import SPAN_ID, TRACE_ID, span_id, trace_id

PATH: Final = "/v1/traces"
# Tags (field number and wire type) of opentelemetry/proto/trace/v1/trace.proto and common.proto.
_NAME, _KIND, _ATTRIBUTE, _STATUS = 0x2A, b"\x30", 0x4A, 0x7A
_TEXT, _BOOL, _INT, _DOUBLE = 0x0A, b"\x10", b"\x18", b"\x21"
_MESSAGE: Final = 0x0A
_SECOND: Final = 0x12
_STATUS_MESSAGE: Final = 0x12
_STATUS_IS_ERROR: Final = b"\x18\x02"
_START, _END = 0x39, 0x41
_TRACE_ID, _SPAN_ID, _PARENT_ID = b"\x0a\x10", b"\x12\x08", b"\x22\x08"
_TIMES: Final = struct.Struct("<BQBQ")
_float: Final = struct.Struct("<d").pack
# The parent is known to be remote (field 16 of a span, 6 of a link; fixed32).
_SPAN_FLAGS: Final = b"\x85\x01\x00\x03\x00\x00"
_LINK: Final = b"\x6a\x21\x0a\x10%b\x12\x08%b\x35\x00\x03\x00\x00"
_KINDS: Final = {SpanKind.INTERNAL: 1, SpanKind.SERVER: 2, SpanKind.CLIENT: 3, SpanKind.CONSUMER: 5}
# Of a hop: trace, parent and own id, and its link.
_HOP_IDS_SIZE: Final = (2 + 16) + 2 * (2 + 8) + 35
MOST_STATUS: Final = 200
# What makes a session of one's own, by variables that are OpenTelemetry's.
CREDENTIALS: Final = (
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER",
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER",
)


class OtlpExporter:
    """Posts spans to a collector; `like` is a span whose resource and scope are those of all."""

    def __init__(self, url: str, like: ReadableSpan) -> None:
        self._poster = poster(endpoint(url))
        self._resource, self._scope = _surroundings(like)
        self._spelling = Spelling(attribute)
        self._common = lru_cache(1024)(self._common_of)
        self._waited = _before_value(NAMES["waited_s"], 1 + 8) + _DOUBLE
        self._before_hop = lru_cache(REMEMBERED)(self._before_hop_of)

    def export(self, spans: Sequence[Finished | Hop]) -> None:
        """Send them; what cannot be sent is logged and lost."""
        self._poster.post(self.encoded(spans))

    def close(self) -> None:
        """Close its connections."""
        self._poster.shutdown()  # type: ignore[no-untyped-call]

    def encoded(self, spans: Sequence[Finished | Hop]) -> bytes:
        """Write an ExportTraceServiceRequest."""
        body = b"".join(self._written(spans))
        scope = _head(_SECOND, len(self._scope) + len(body)) + self._scope
        before = self._resource + scope
        return b"".join((_head(_MESSAGE, len(before) + len(body)), before, body))

    def _written(self, spans: Sequence[Finished | Hop]) -> list[bytes]:
        """Write each span; of a hop first what it shares with others: fields are in any order."""
        written: list[bytes] = []
        before_hop, pack, unhex = self._before_hop, _TIMES.pack, bytes.fromhex
        for span in spans:
            if isinstance(span, Finished):
                written.append(_field(_SECOND, self._span(span)))
                continue
            task_id, parent, waited_s = span.task_id, span.parent, span.waited_s
            trace, above = parent[TRACE_ID], parent[SPAN_ID]
            written += (
                before_hop(span.name, span.common, len(task_id), waited_s is None),
                task_id.encode(),
                pack(_START, span.start_ns, _END, span.end_ns),
                b"" if waited_s is None else self._waited + _float(waited_s),
                unhex(
                    f"0a10{trace}2208{above}1208{span.own[SPAN_ID]}"
                    f"6a2135000300000a10{trace}1208{above}"
                ),
            )
        return written

    def _before_hop_of(
        self, name: str, common: tuple[Attribute, ...], chars: int, has_not_waited: bool
    ) -> bytes:
        """Write all of a hop that comes before its task's id, which has so many characters."""
        about = dict(zip(step(name).says, common, strict=True))
        shared = self._common(name) + self._spelling.of(about) + _status("")
        shared += _before_value(NAMES["task_id"], chars, tag=_TEXT)
        size = len(shared) + chars + _TIMES.size + _HOP_IDS_SIZE
        return _head(_SECOND, size + (0 if has_not_waited else len(self._waited) + 8)) + shared

    def _span(self, span: Finished) -> bytes:
        ids = bytes.fromhex(f"{trace_id(span.parent)}{span_id(span.parent)}{span.span_id}")
        trace, parent, own = ids[:16], ids[16:24], ids[24:]
        return b"".join(
            (
                *(_TRACE_ID, trace, _SPAN_ID, own, _PARENT_ID, parent),
                self._common(span.name),
                _TIMES.pack(_START, span.start_ns, _END, span.end_ns),
                self._spelling(span),
                _link(trace, parent) if step(span.name).reads_messages else b"",
                *[_link(*_ids(each)) for each in span.links],
                _status(span.error),
            )
        )

    def _common_of(self, name: str) -> bytes:
        """Write what all spans of a name have."""
        what = step(name)
        written = _field(_NAME, name.encode()) + _KIND + bytes([_KINDS[what.kind]]) + _SPAN_FLAGS
        return written + self._spelling.all(what.attributes)


class Poster(OTLPSpanExporter):
    """OpenTelemetry's way to a collector: its variables, repetitions, compression, certificates."""

    def post(self, body: bytes) -> None:
        """Send a request that is written already; it logs what it cannot send."""
        self._client.export(body)


def poster(url: str) -> Poster:
    """Post as lean as OpenTelemetry can where its usual way would only take longer.

    `requests` looks for proxies, credentials and certificates before each request, longer than the
    request itself takes.
    """
    scheme, host, *_ = urlsplit(url)
    is_proxied = bool(getproxies()) and not proxy_bypass(host)
    if scheme == "https" or is_proxied or any(environ.get(each) for each in CREDENTIALS):
        return Poster(endpoint=url)
    return Poster(endpoint=url, _transport=Urllib3HTTPTransport())


def endpoint(url: str) -> str:
    """Give where spans are posted: a collector's URL without a path gets the standard one."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=PATH)) if parts.path in {"", "/"} else url


def attribute(name: str, value: Attribute) -> bytes:
    """Write a KeyValue as an attribute of a span."""
    if isinstance(value, str):
        text = value.encode("utf-8", "replace")
        return _before_value(name, len(text), tag=_TEXT) + text
    written = _number(value)
    return _before_value(name, len(written)) + written


@lru_cache(4096)
def _before_value(name: str, length: int, *, tag: int = 0) -> bytes:
    """Write all of an attribute that comes before its value; `tag` that of a text."""
    value = _head(tag, length) if tag else b""
    key = _field(_TEXT, name.encode()) + _head(_SECOND, len(value) + length)
    return _head(_ATTRIBUTE, len(key) + len(value) + length) + key + value


def _number(value: float) -> bytes:
    """Write an AnyValue."""
    if isinstance(value, bool):
        return _BOOL + bytes([value])
    if isinstance(value, int):
        return _INT + _varint(value & (2**64 - 1))
    return _DOUBLE + _float(value)


def _link(trace: bytes, span: bytes) -> bytes:
    return _LINK % (trace, span)


def _ids(traceparent: str) -> tuple[bytes, bytes]:
    return bytes.fromhex(trace_id(traceparent)), bytes.fromhex(span_id(traceparent))


@lru_cache(256)
def _status(error: str) -> bytes:
    if not error:
        return _field(_STATUS, b"")
    text = error[:MOST_STATUS].encode("utf-8", "replace")
    return _field(_STATUS, _field(_STATUS_MESSAGE, text) + _STATUS_IS_ERROR)


def _field(tag: int, content: bytes) -> bytes:
    return _head(tag, len(content)) + content


@lru_cache(4096)
def _head(tag: int, length: int) -> bytes:
    return bytes((tag,)) + _varint(length)


def _varint(number: int) -> bytes:
    written = bytearray()
    while number >= 0x80:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def _surroundings(like: ReadableSpan) -> tuple[bytes, bytes]:
    """Write ResourceSpans and ScopeSpans without a span: their fields may come in any order."""
    (resource,) = encode_spans([like]).resource_spans
    (scope,) = resource.scope_spans
    scope.ClearField("spans")
    written = scope.SerializeToString()
    resource.ClearField("scope_spans")
    return resource.SerializeToString(), written
