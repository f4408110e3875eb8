"""Where spans go: an OTLP collector gets them as it wants them, and a full disk harms nobody."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from octarm.common.telemetry import conventions, tracing
from octarm.common.telemetry.exporters import FileExporter, Finished, otlp_endpoint

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector:
    """An OTLP/HTTP receiver: keeps what is posted."""

    def __init__(self) -> None:
        collector = self
        self.posted: list[tuple[str, ExportTraceServiceRequest]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                request = ExportTraceServiceRequest.FromString(body)
                collector.posted.append((self.path, request))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def test_a_collector_gets_spans_by_otlp(collector: Collector) -> None:
    tracing.setup_tracing("scheduler", f"otlp:{collector.url}", sample=0, instance="i-1")
    own = tracing.record("scheduler.place", PARENT, 1_000, 5_000, task_id="t", error="LATE")
    tracing.shutdown()

    ((path, request),) = collector.posted
    (resource,) = request.resource_spans
    (scope,) = resource.scope_spans
    (span,) = scope.spans
    named = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert path == "/v1/traces"
    assert named.items() >= {
        ("service.name", "octarm-scheduler"),
        ("service.instance.id", "i-1"),
    }
    assert scope.schema_url == conventions.SCHEMA_URL
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (PARENT[3:35], PARENT[36:52])
    assert (span.span_id.hex(), span.name) == (own[36:52], "scheduler.place")
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (1_000, 5_000)
    assert span.kind == span.SPAN_KIND_CONSUMER
    assert span.status.code == span.status.STATUS_CODE_ERROR
    assert len(span.links) == 1
    assert {each.key for each in span.attributes} >= {"octarm.task.id", "messaging.system"}


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("http://collector:4318/", "http://collector:4318/v1/traces"),
        ("https://c.example/otlp/v1/traces?a=b", "https://c.example/otlp/v1/traces?a=b"),
    ],
)
def test_a_url_without_a_path_gets_the_standard_one(url: str, endpoint: str) -> None:
    assert otlp_endpoint(url) == endpoint


def test_a_folder_that_has_gone_costs_the_spans_and_nothing_else(tmp_path: Path) -> None:
    exporter = FileExporter(tmp_path / "traces", "gateway")
    (tmp_path / "traces").rmdir()

    exporter.export([Finished("one", PARENT, "b" * 16, 1, 2, {})])

    assert not (tmp_path / "traces").exists()
