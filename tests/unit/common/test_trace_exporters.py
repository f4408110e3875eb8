"""Where spans go: an OTLP collector gets them as it wants them, and a full disk harms nobody."""

import gzip
import json
import threading
from collections.abc import Iterator, Sequence
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.exporter.http.transport._urllib3 import Urllib3HTTPTransport
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource

from octarm.common.telemetry import conventions, tracing
from octarm.common.telemetry.conventions import Attribute
from octarm.common.telemetry.exporters import ANY, AT_ONCE, Outbox, readable
from octarm.common.telemetry.otlp import OtlpExporter, endpoint, poster
from octarm.common.telemetry.span_lines import FileExporter
from octarm.common.telemetry.spans import Finished, Hop, finished

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector:
    """An OTLP/HTTP receiver: keeps what is posted."""

    def __init__(self) -> None:
        collector = self
        self.posted: list[tuple[str, ExportTraceServiceRequest]] = []
        self.heads: list[Message] = []
        self.lines: set[object] = set()
        self.closes = False

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.heads.append(self.headers)
                collector.lines.add(self.client_address)
                self.close_connection = collector.closes
                if self.headers["content-encoding"] == "gzip":
                    body = gzip.decompress(body)
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


def test_what_opentelemetry_is_told_by_variables_holds(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-scope=acme")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    exporter = OtlpExporter(collector.url, readable(ANY, Resource.create({})))

    for number in range(3):
        exporter.export([a_hop("scheduler.place", number=number)])
    exporter.close()

    assert len(collector.posted) == 3
    assert {each["x-scope"] for each in collector.heads} == {"acme"}
    assert {each["content-encoding"] for each in collector.heads} == {"gzip"}
    assert len(collector.lines) == 1, "one connection for all"


def test_a_collector_that_closed_the_line_gets_the_next_spans(collector: Collector) -> None:
    exporter = OtlpExporter(collector.url, readable(ANY, Resource.create({})))

    for number in range(2):
        collector.closes = number == 0
        exporter.export([a_hop("scheduler.place", number=number)])
    exporter.close()

    assert len(collector.posted) == 2


PLAIN = "http://collector:4318/v1/traces"


@pytest.mark.parametrize(
    ("url", "told", "is_lean"),
    [
        (PLAIN, {}, True),
        (PLAIN, {"http_proxy": "http://proxy:1", "no_proxy": "collector"}, True),
        (PLAIN, {"http_proxy": "http://proxy:1"}, False),
        (PLAIN, {"all_proxy": "http://proxy:1"}, False),
        (PLAIN.replace("http:", "https:"), {}, False),
    ],
)
def test_posting_is_lean_where_there_is_nothing_to_look_up(
    url: str, told: dict[str, str], is_lean: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)

    made = poster(url)
    made.shutdown()  # type: ignore[no-untyped-call]

    assert isinstance(made._client._transport, Urllib3HTTPTransport) == is_lean


VALUES: list[Attribute] = [
    *(0, 1, 127, 128, 300, -1, 2**63 - 1, -(2**63)),
    *(True, False, 0.0, -1.5, 1e300, "", "short", "é" * 200, "x" * 400),
]


@pytest.mark.parametrize("name", ["gateway.submit", "scheduler.place", "llm.chat", "of.an.arm"])
@pytest.mark.parametrize("error", ["", "LATE", "Ä" * 300])
def test_a_span_is_written_as_the_sdk_would_have_written_it(name: str, error: str) -> None:
    attributes = {f"value_{number}": value for number, value in enumerate(VALUES)}
    attributes |= {"task_id": "t", "reason": "of ann@example.org", "k" * 200: "long"}
    resource = Resource.create({"service.name": "octarm-test"}, schema_url=conventions.SCHEMA_URL)
    parents = (PARENT, PARENT[:-1] + "0")
    spans = [Finished(name, parent, "b" * 16, 7, 9, attributes, error) for parent in parents]
    exporter = OtlpExporter("http://127.0.0.1:1", readable(ANY, resource))

    written = ExportTraceServiceRequest.FromString(exporter.encoded(spans))
    exporter.close()

    assert written == encode_spans([readable(span, resource) for span in spans])


WORDS: dict[str, Attribute] = {
    **{"attempt": 2, "arm_id": "llm", "agent": "llm", "policy": "fair@1", "state": "completed"},
    **{"tenant": "acme", "reason": "ann@example.org likes it"},
}
HOPS = [name for name, step in conventions.STEPS.items() if step.says]


def a_hop(name: str, *, number: int = 0, waited_s: float | None = None) -> Hop:
    own, says = PARENT.replace("b7ad", f"{number:04x}"), conventions.step(name).says
    common = tuple(WORDS[word] for word in says)
    return Hop(name, PARENT, own, 7 + number // 2, 9, f"tsk_{number}", common, waited_s)


def test_every_step_of_a_task_that_goes_well_is_a_hop() -> None:
    assert len(HOPS) == 5
    assert all(conventions.step(name).reads_messages for name in HOPS)


@pytest.mark.parametrize("waited_s", [None, 0.0, 1.5])
def test_a_hop_is_written_as_any_other_span(waited_s: float | None) -> None:
    resource = Resource.create({"service.name": "octarm-test"}, schema_url=conventions.SCHEMA_URL)
    hops = [a_hop(name, number=n, waited_s=waited_s) for n in range(12) for name in HOPS]
    mixed: list[Finished | Hop] = [
        *hops,
        Finished("of.an.arm", PARENT, "b" * 16, 7, 9, {"shelf": 7}),
    ]
    exporter = OtlpExporter("http://127.0.0.1:1", readable(ANY, resource))

    written = ExportTraceServiceRequest.FromString(exporter.encoded(mixed))
    exporter.close()

    expected = encode_spans([readable(span, resource) for span in finished(mixed)])
    assert by_key(written) == by_key(expected)


def by_key(request: ExportTraceServiceRequest) -> ExportTraceServiceRequest:
    """Put attributes in the order of their names: they are a set."""
    for span in request.resource_spans[0].scope_spans[0].spans:
        span.attributes.sort(key=lambda each: each.key)
    return request


def test_files_have_a_hop_as_any_other_span(tmp_path: Path) -> None:
    hop = a_hop("scheduler.place", waited_s=1.5)
    for each in (hop, hop.finished()):
        FileExporter(tmp_path, "x").export([each])

    (file,) = tmp_path.glob("*.jsonl")
    one, other = map(json.loads, file.read_text().splitlines())
    assert one == other
    assert one["attributes"]["octarm.placement.reason"] == "<EMAIL> likes it"


class Recording:
    """An exporter that keeps how many spans came at once."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.came = threading.Event()

    def export(self, spans: Sequence[Finished | Hop]) -> None:
        self.sizes.append(len(spans))
        self.came.set()

    def close(self) -> None:
        """Nothing to do."""


def test_a_full_batch_does_not_wait_and_what_is_left_does() -> None:
    exporter = Recording()
    outbox = Outbox(exporter, every_s=3600)

    for number in range(AT_ONCE + 10):
        outbox.put(a_hop("scheduler.place", number=number))
    assert exporter.came.wait(10)
    before = list(exporter.sizes)
    outbox.close()

    assert before == [AT_ONCE]
    assert exporter.sizes == [AT_ONCE, 10]


@pytest.mark.parametrize("name", ["of_the_arms_own", "model", "reason"])
def test_what_no_encoding_can_hold_costs_no_span(tmp_path: Path, name: str) -> None:
    span = Finished("one", PARENT, "b" * 16, 7, 9, {name: "\ud800", "n": 10**30}, "\ud800")
    otlp = OtlpExporter("http://127.0.0.1:1", readable(ANY, Resource.create({})))

    request = ExportTraceServiceRequest.FromString(otlp.encoded([span]))
    otlp.close()
    FileExporter(tmp_path, "x").export([span])

    assert request.resource_spans[0].scope_spans[0].spans[0].name == "one"
    (file,) = tmp_path.glob("*.jsonl")
    assert json.loads(file.read_text())["name"] == "one"


@pytest.mark.parametrize(
    ("url", "posted_to"),
    [
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("http://collector:4318/", "http://collector:4318/v1/traces"),
        ("https://c.example/otlp/v1/traces?a=b", "https://c.example/otlp/v1/traces?a=b"),
    ],
)
def test_a_url_without_a_path_gets_the_standard_one(url: str, posted_to: str) -> None:
    assert endpoint(url) == posted_to


def test_a_folder_that_has_gone_costs_the_spans_and_nothing_else(tmp_path: Path) -> None:
    exporter = FileExporter(tmp_path / "traces", "gateway")
    (tmp_path / "traces").rmdir()

    exporter.export([Finished("one", PARENT, "b" * 16, 1, 2, {})])

    assert not (tmp_path / "traces").exists()
