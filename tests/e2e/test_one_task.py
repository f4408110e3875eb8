"""A task is one task, however it comes in, and one trace from HTTP to memory."""

import asyncio
import json
from itertools import pairwise
from typing import Any

import httpx
import nats
import pytest

from octarm.models.subjects import SUBMIT_TASK
from octarm.sdk import Client
from tests.e2e.conftest import COMMAND_S, Up
from tests.support.wait import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

BODY: dict[str, Any] = {
    "goal": "say hello",
    "required_capabilities": ["shell"],
    "context": {"command": "echo hi"},
}
TREE = [
    "gateway.submit",
    "orchestrator.accept",
    "scheduler.place",
    "arm.run",
    "orchestrator.finish",
    "memory.remember",
]


async def test_four_ways_in_lead_to_the_same_task(up: Up) -> None:
    key = "four-ways"
    body = BODY | {"idempotency_key": key}

    async with httpx.AsyncClient(base_url=up.gateway) as http:
        over_http = (await http.post("/v1/tasks", json=body)).json()["task_id"]
    arguments = ("--needs", "shell", "--context", "command=echo hi", "--idempotency-key", key)
    over_cli = up.octarm("submit", "say hello", *arguments, "--json")
    async with Client(up.nats) as client:
        over_sdk = (await client.submit(**body)).id
        bus = await nats.connect(up.nats)
        message = json.dumps({"submission": body}).encode()
        headers = {"Nats-Msg-Id": key}
        await bus.jetstream().publish(SUBMIT_TASK.at(tenant="default"), message, headers=headers)
        await bus.close()
        result = await client.task(over_http).result(timeout=COMMAND_S)
        listed = await client.find(limit=500)

    assert json.loads(over_cli.stdout)["task_id"] == over_http, over_cli
    assert over_sdk == over_http
    assert isinstance(result.output, dict)
    assert result.output["stdout"] == "hi\n"
    same_key = [task for task in listed.tasks if task.task.idempotency_key == key]
    assert [task.task_id for task in same_key] == [over_http]


async def test_a_hundred_equal_submissions_at_once_are_one_task(up: Up) -> None:
    body = BODY | {"idempotency_key": "hundred"}
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(base_url=up.gateway, limits=limits, timeout=COMMAND_S) as http:
        answers = await asyncio.gather(*(http.post("/v1/tasks", json=body) for _ in range(100)))
        other = await http.post("/v1/tasks", json=body | {"goal": "something else"})

    assert {answer.status_code for answer in answers} <= {200, 202}
    assert len({answer.json()["task_id"] for answer in answers}) == 1
    assert other.status_code == 409
    assert other.json()["code"] == "IDEMPOTENCY_CONFLICT"


async def test_a_task_without_key_published_twice_under_one_id_is_one_task(up: Up) -> None:
    bus = await nats.connect(up.nats)
    message = json.dumps({"submission": BODY | {"labels": {"test": "intake"}}}).encode()
    subject = SUBMIT_TASK.at(tenant="default")
    for _ in range(2):
        await bus.jetstream().publish(subject, message, headers={"Nats-Msg-Id": "intake-once"})
    await bus.close()

    async with Client(up.nats) as client:

        async def found() -> int:
            return len((await client.find(label="test=intake")).tasks)

        await wait_until(found)
        assert await found() == 1


async def test_one_tasks_spans_are_one_tree_through_all_services(up: Up) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    traceparent = f"00-{trace_id}-b7ad6b7169203331-01"
    async with httpx.AsyncClient(base_url=up.gateway) as http:
        answer = await http.post("/v1/tasks", json=BODY, headers={"traceparent": traceparent})
        assert answer.status_code == 202

    def spans() -> dict[str, dict[str, object]]:
        return {span["name"]: span for span in up.spans() if span["trace_id"] == trace_id}

    await wait_until(lambda: set(TREE) <= set(spans()), timeout_s=COMMAND_S)
    found = spans()
    assert found[TREE[0]]["parent_id"] == "b7ad6b7169203331"
    for parent, child in pairwise(TREE):
        assert found[child]["parent_id"] == found[parent]["span_id"], (parent, child)
    drawn = up.octarm("trace", answer.json()["task_id"]).stdout
    assert all(name in drawn for name in TREE), drawn


async def test_what_was_not_asked_for_is_not_traced(up: Up) -> None:
    async with Client(up.nats) as client:
        task = await client.submit(**BODY)
        await task.result(timeout=COMMAND_S)
        view = await task.show()

    assert view.traceparent.endswith("-00")
    assert view.traceparent[3:35] not in {span["trace_id"] for span in up.spans()}


async def test_a_task_that_waited_for_another_is_linked_to_its_trace(up: Up) -> None:
    async with httpx.AsyncClient(base_url=up.gateway, timeout=COMMAND_S) as http:

        async def submit(trace_id: str, body: dict[str, Any]) -> str:
            headers = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"}
            return str((await http.post("/v1/tasks", json=body, headers=headers)).json()["task_id"])

        # Where the machine has much else to do, the first may have ended before the second comes.
        for nap_s in (2, 20, 60):
            first, second = (f"{one}{nap_s:02}7651916cd43dd8448eb211c80319c" for one in "12")
            needed = await submit(first, BODY | {"context": {"command": f"sleep {nap_s}"}})
            waiting = await submit(second, BODY | {"depends_on": [needed]})
            if (await http.get(f"/v1/tasks/{waiting}")).json()["state"] == "waiting":
                break

    def named(name: str) -> list[dict[str, Any]]:
        return [s for s in up.spans() if s["trace_id"] == second and s["name"] == name]

    await wait_until(
        lambda: named("memory.remember") and named("scheduler.place"), timeout_s=COMMAND_S
    )
    await wait_until(lambda: named("orchestrator.wake"), timeout_s=COMMAND_S)
    (woke,), (place,) = named("orchestrator.wake"), named("scheduler.place")
    assert [link[:32] for link in woke["links"]] == [first]
    assert place["parent_id"] == woke["span_id"]
    # Waiting is the gap between two spans: no step lasts as long as what it waited for.
    (accept,) = named("orchestrator.accept")
    assert accept["end_ns"] <= woke["start_ns"] <= woke["end_ns"]
    drawn = up.octarm("trace", waiting).stdout
    assert f"after trace {first[:8]}" in drawn
