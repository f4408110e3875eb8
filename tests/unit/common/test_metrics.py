"""Metrics are there from the start, and lead to traces where they are asked to."""

import uuid

import httpx
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from octarm.common.health import HealthServer
from octarm.common.telemetry import metrics

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


def samples(accept: str = OPEN_METRICS) -> list[Sample]:
    body, _ = metrics.negotiated(accept)
    families = text_string_to_metric_families(body.decode())  # type: ignore[no-untyped-call]
    return [sample for family in families for sample in family.samples]


def exemplars(route: str) -> list[tuple[float, dict[str, str]]]:
    return [
        (sample.exemplar.value, sample.exemplar.labels)
        for sample in samples()
        if sample.labels.get("route") == route and sample.exemplar is not None
    ]


def test_a_sampled_trace_becomes_the_exemplar_of_its_bucket() -> None:
    route = uuid.uuid4().hex
    name = "octarm_gateway_request_seconds"

    metrics.observe(name, 0.3, traceparent=f"00-{TRACE_ID}-{'b' * 16}-00", route=route)
    assert exemplars(route) == []
    metrics.observe(name, 0.2, traceparent=f"00-{TRACE_ID}-{'b' * 16}-01", route=route)
    metrics.observe(name, 0.2, route=route)

    assert exemplars(route) == [(0.2, {"trace_id": TRACE_ID})]


def test_the_text_format_has_no_exemplars() -> None:
    metrics.observe(
        "octarm_gateway_request_seconds", 1, traceparent=f"00-{TRACE_ID}-{'b' * 16}-01", route="r"
    )

    body, content_type = metrics.negotiated("text/plain")

    assert content_type.startswith("text/plain")
    assert TRACE_ID.encode() not in body
    assert body == metrics.exposition()


def test_what_counts_is_at_nothing_before_its_first_event() -> None:
    metrics.begin("orchestrator")
    durable = uuid.uuid4().hex
    metrics.begin_consumer(durable)

    found = samples()
    states = {
        sample.labels["state"]
        for sample in found
        if sample.name == "octarm_orchestrator_tasks_ended_total"
    }
    consumed = {sample.name: sample.value for sample in found if durable in sample.labels.values()}
    assert "octarm_orchestrator_late_results_created" not in {sample.name for sample in found}
    assert states >= {"completed", "failed", "timed_out"}
    assert "octarm_orchestrator_late_results_total" in {sample.name for sample in found}
    assert consumed == {metric.name: 0 for metric in metrics.BUS_COUNTERS}


async def test_a_process_answers_in_the_format_that_is_asked_for() -> None:
    async with (
        HealthServer(0, host="127.0.0.1", live=lambda: True, ready={}) as server,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http,
    ):
        plain = await http.get("/metrics", headers={"accept": "*/*"})
        asked = await http.get("/metrics", headers={"accept": f"{OPEN_METRICS},text/plain;q=0.5"})

    assert plain.headers["content-type"].startswith("text/plain")
    assert asked.headers["content-type"].startswith("application/openmetrics-text")
    assert asked.text.endswith("# EOF\n")
