"""Every metric that a dashboard or an alert names is emitted, with the labels it is asked by."""

import asyncio
import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import httpx
import nats
import pytest
import yaml

from octarm.common.telemetry.metrics import METRICS
from octarm.models.subjects import SUBMIT_TASK
from tests.e2e.conftest import Up
from tests.support.scraping import endpoints, scraped
from tests.support.sources import ROOT
from tests.support.wait import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

FOLDER: Final = ROOT / "deploy/observability"
SERIES: Final = re.compile(r"\b(octarm_\w+)(?:\{([^}]*)\})?")
GROUPED: Final = re.compile(r"\bby \(([^)]*)\)")
# Label values of these are unknown before the event, and the event is not for this stack.
NOT_HERE: Final = {
    "octarm_scheduler_policy_errors_total": "a deployed policy would have to fail",
    "octarm_scheduler_policy_dropped_total": "a deployed policy would have to ask for too much",
    "octarm_scheduler_rejected_total": "a policy would have to reject a waiting task",
    "octarm_scheduler_shadow_total": "a policy would have to run as a shadow",
    "octarm_memory_consolidated_total": "an episode would have to close with facts worth keeping",
}
BODY: Final[dict[str, Any]] = {
    "goal": "count",
    "required_capabilities": ["shell"],
    "budget": {"max_retries": 0},
}
TRACE_ID: Final = "c0ffee7651916cd43dd8448eb211c803"


async def test_every_metric_is_emitted_with_the_labels_it_is_asked_by(up: Up) -> None:
    await _load(up)
    urls = endpoints(up.pids).values()
    families = {metric.name for metric in METRICS} - set(NOT_HERE)
    asked = _asked()

    async def never_emitted() -> set[str]:
        return families - {_family(sample.name) for sample in await scraped(urls)}

    async def all_there() -> bool:
        return not await never_emitted()

    with suppress(AssertionError):
        await wait_until(all_there, 60)
    assert await never_emitted() == set()
    emitted: dict[str, set[str]] = {}
    for sample in await scraped(urls):
        emitted.setdefault(sample.name, {"service"}).update(sample.labels)

    missing = {
        (name, label)
        for name, labels in asked.items()
        if _family(name) not in NOT_HERE
        for label in {"", *labels} - (emitted.get(name) or set())
        if label or name not in emitted
    }
    assert len(asked) > 25
    assert missing == set()
    exemplars = {
        sample.name: sample.exemplar.labels
        for sample in await scraped(urls)
        if sample.exemplar is not None and sample.exemplar.labels["trace_id"] == TRACE_ID
    }
    assert set(exemplars) == {
        "octarm_gateway_request_seconds_bucket",
        "octarm_scheduler_placement_seconds_bucket",
        "octarm_arm_attempt_seconds_bucket",
    }


def test_nothing_is_said_not_to_be_emitted_that_no_process_knows() -> None:
    assert set(NOT_HERE) <= {metric.name for metric in METRICS}


def _family(name: str) -> str:
    return re.sub(r"_(bucket|sum|count)$", "", name)


def _asked() -> dict[str, set[str]]:
    """Give each series that is asked for, and the labels by which it is."""
    groups = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    expressions = [rule["expr"] for group in groups for rule in group["rules"]]
    for path in sorted(Path(FOLDER / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            expressions += [target["expr"] for target in panel["targets"]]
    asked: dict[str, set[str]] = {}
    for expression in expressions:
        grouped = {label for group in GROUPED.findall(expression) for label in group.split(", ")}
        for name, matchers in SERIES.findall(expression):
            asked.setdefault(name, set()).update(grouped, re.findall(r"(\w+)[=!]", matchers))
    return asked


async def _load(up: Up) -> None:
    """One of each: what ends well, fails, is refused, is remembered, found, erased, buried."""
    async with httpx.AsyncClient(base_url=up.gateway, timeout=60) as http:
        await _tasks(http)
        await _memory(http)
    bus = await nats.connect(up.nats)
    subject = SUBMIT_TASK.at(tenant="default")
    await bus.jetstream().publish(subject, b"{", headers={"Nats-Msg-Id": "metrics"})
    await asyncio.wait_for(bus.close(), 10)


async def _tasks(http: httpx.AsyncClient) -> None:
    traced = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}
    wishes = [BODY | {"context": {"command": command}} for command in ("true", "exit 3")]
    answers = [await http.post("/v1/tasks", json=wish, headers=traced) for wish in wishes]
    keyed = BODY | {"context": {"command": "true"}, "idempotency_key": "metrics"}
    first = await http.post("/v1/tasks", json=keyed)
    refused = await http.post("/v1/tasks", json=keyed | {"goal": "another"})
    assert (first.status_code, refused.status_code) == (202, 409)
    for answer in answers:
        path = f"/v1/tasks/{answer.json()['task_id']}"

        async def ended(path: str = path) -> bool:
            return (await http.get(path)).json()["terminal_at"] is not None

        await wait_until(ended, 60)


async def _memory(http: httpx.AsyncClient) -> None:
    memory = {"content": "The bridge is closed on Mondays.", "tags": ["metrics-test"]}
    kept = await http.post("/v1/memory/remember", json={"memories": [memory]})
    found = await http.post("/v1/memory/search", json={"query": "bridge"})
    episode = await http.get(f"/v1/memory/episodes/epi_{'0' * 25}1")
    task = (await http.get("/v1/tasks", params={"limit": 1})).json()["tasks"][0]["task_id"]
    opened = await http.post("/v1/memory/episodes", json={"task_id": task})
    erased = await http.post("/v1/memory/erasures", json={"tag": "metrics-test"})
    assert [kept.status_code, found.status_code, episode.status_code] == [200, 200, 404]
    assert (opened.status_code, erased.status_code) == (201, 202), (opened.text, erased.text)
