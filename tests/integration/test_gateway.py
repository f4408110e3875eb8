"""The gateway on a real bus, with something that plays the orchestrator."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import httpx
import nats
import pytest
import pytest_asyncio
from httpx_sse import EventSource, ServerSentEvent, aconnect_sse
from nats.aio.client import Client

from octarm.common.bus.topology import provision
from octarm.models.ids import new_id
from octarm.models.states import TaskState
from octarm.models.subjects import CHUNK, EVENTS, TASK_EVENTS, event_bucket, what_of
from tests.support.fleet import FakeTasks
from tests.support.gateway import a_gateway, a_running_gateway, an_orchestrator
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration
GOAL = {"goal": "Summarise"}


@pytest_asyncio.fixture
async def bus(nats_url: str) -> AsyncGenerator[Client, None]:
    """A connection to a provisioned bus."""
    nc = await nats.connect(nats_url)
    await provision(nc.jetstream())
    yield nc
    await nc.close()


async def say(bus: Client, task_id: str, *verbs: str, tenant: str = "default") -> int:
    """Publish events of a task, each alone; gives the place of the last."""
    seq = 0
    for verb in verbs:
        bucket = event_bucket(task_id)
        subject = TASK_EVENTS.at(what=what_of(verb), tenant=tenant, bucket=bucket)
        body = f'{{"events":[{{"type":"task.{verb}","task_id":"{task_id}"}}]}}'
        seq = (await bus.jetstream().publish(subject, body.encode())).seq
    return seq * 64


@asynccontextmanager
async def following(
    client: httpx.AsyncClient, task_id: str, last_id: str = ""
) -> AsyncGenerator[AsyncIterator[ServerSentEvent], None]:
    """The events of a task as an EventSource sees them."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    async with aconnect_sse(
        client, "GET", f"/v1/tasks/{task_id}/events", headers=headers
    ) as source:
        yield aiter_of(source)


def aiter_of(source: EventSource) -> AsyncIterator[ServerSentEvent]:
    """Check the answer, then give its events."""
    source.response.raise_for_status()
    return source.aiter_sse()


class TestSubmit:
    @pytest.mark.bad_input(4)
    async def test_a_hundred_at_once_with_one_key_are_one_task(
        self, nats_url: str, bus: Client
    ) -> None:
        tasks = FakeTasks()
        async with an_orchestrator(nats_url, tasks), a_gateway(nats_url) as client:
            headers = {"Idempotency-Key": "same"}
            responses = await asyncio.gather(
                *(client.post("/v1/tasks", json=GOAL, headers=headers) for _ in range(100))
            )

        assert len({response.text for response in responses}) == 1
        assert sorted(response.status_code for response in responses) == [200] * 99 + [202]
        assert len(tasks.views) == 1

    async def test_is_refused_for_now_when_no_orchestrator_answers(
        self, nats_url: str, bus: Client
    ) -> None:
        async with a_gateway(nats_url) as client:
            response = await client.post("/v1/tasks", json=GOAL)
            ready = await client.get("/readyz")

        assert (response.status_code, response.json()["code"]) == (503, "SERVICE_UNAVAILABLE")
        assert response.headers["retry-after"]
        assert ready.status_code == 503
        assert "orchestrator" in ready.json()["detail"]

    async def test_is_ready_once_one_does(self, nats_url: str, bus: Client) -> None:
        async with an_orchestrator(nats_url, FakeTasks()), a_gateway(nats_url) as client:
            assert (await client.get("/readyz")).status_code == 200


class TestTasks:
    async def test_are_shown_listed_and_cancelled(self, nats_url: str, bus: Client) -> None:
        tasks = FakeTasks()
        async with an_orchestrator(nats_url, tasks), a_gateway(nats_url) as client:
            task_id = (await client.post("/v1/tasks", json=GOAL)).json()["task_id"]
            shown = await client.get(f"/v1/tasks/{task_id}")
            listed = await client.get("/v1/tasks")
            cancelled = await client.post(f"/v1/tasks/{task_id}/cancel")
            unknown = await client.get(f"/v1/tasks/{new_id('tsk')}")

        assert shown.json()["task"]["goal"] == "Summarise"
        assert [task["task_id"] for task in listed.json()["tasks"]] == [task_id]
        assert cancelled.json()["state"] == "cancelled"
        assert (unknown.status_code, unknown.json()["code"]) == (404, "TASK_NOT_FOUND")

    async def test_a_result_is_waited_for_and_comes_at_once(
        self, nats_url: str, bus: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("octarm.gateway.usecases.follow.SWEEP_S", 60.0)
        tasks = FakeTasks()
        async with an_orchestrator(nats_url, tasks), a_gateway(nats_url) as client:
            task_id = tasks.add(state=TaskState.RUNNING)
            waiting = asyncio.create_task(client.get(f"/v1/tasks/{task_id}/result?wait=30"))
            await wait_until(lambda: tasks.asked)
            before = datetime.now(UTC)
            tasks.move(task_id, TaskState.COMPLETED)

            async def told() -> bool:
                await say(bus, task_id, "completed")
                return waiting.done()

            await wait_until(told)
            response = await waiting

        assert response.json()["state"] == "completed"
        assert (datetime.now(UTC) - before).total_seconds() < 20


class TestEvents:
    async def test_come_in_order_with_their_sequence_until_the_end(
        self, nats_url: str, bus: Client
    ) -> None:
        tasks = FakeTasks()
        async with an_orchestrator(nats_url, tasks), a_gateway(nats_url) as client:
            task_id = tasks.add(state=TaskState.RUNNING)
            await say(bus, tasks.add(), "accepted")
            await say(bus, task_id, "accepted", "ready")
            async with following(client, task_id) as events:
                first = [await anext(events), await anext(events)]
                await bus.publish(CHUNK.at(task_id=task_id), b'{"text":"once"}')
                chunk = await anext(events)
                last = await say(bus, task_id, "completed")
                rest = [event async for event in events]

        assert [event.event for event in first] == ["task.accepted", "task.ready"]
        assert [event.id for event in first] == ["128", "192"]
        assert (chunk.event, chunk.data) == ("chunk", '{"text":"once"}')
        assert [(event.event, event.id) for event in rest] == [("task.completed", str(last))]

    async def test_resume_without_a_gap_and_end_with_204(self, nats_url: str, bus: Client) -> None:
        tasks = FakeTasks()
        async with an_orchestrator(nats_url, tasks), a_gateway(nats_url) as client:
            task_id = tasks.add(state=TaskState.RUNNING)
            await say(bus, task_id, "accepted", "ready", "completed")
            tasks.move(task_id, TaskState.COMPLETED)
            async with following(client, task_id, last_id="64") as events:
                ids = [event.id async for event in events]
            over = await client.get(
                f"/v1/tasks/{task_id}/events", headers={"Last-Event-ID": ids[-1]}
            )

        assert ids == ["128", "192"]
        assert (over.status_code, over.content) == (204, b"")

    async def test_of_another_tenant_are_never_shown(self, nats_url: str, bus: Client) -> None:
        keys = '{"key-of-acme": "acme", "key-of-zeta": "zeta"}'
        tasks = FakeTasks()
        async with (
            an_orchestrator(nats_url, tasks),
            a_gateway(nats_url, api_keys=keys) as client,
        ):
            task_id = tasks.add("zeta", state=TaskState.RUNNING)
            await say(bus, task_id, "accepted", tenant="zeta")
            headers = {"X-API-Key": "key-of-acme"}
            foreign = await client.get(f"/v1/tasks/{task_id}/events", headers=headers)

        assert foreign.status_code == 404

    async def test_go_on_when_the_consumer_is_lost(self, nats_url: str, bus: Client) -> None:
        tasks = FakeTasks()
        async with an_orchestrator(nats_url, tasks), a_gateway(nats_url) as client:
            task_id = tasks.add(state=TaskState.RUNNING)
            await say(bus, task_id, "accepted")
            async with following(client, task_id) as events:
                await anext(events)
                (name,) = await followers(bus)
                await bus.jetstream().delete_consumer(EVENTS, name)
                await say(bus, task_id, "ready", "completed")
                rest = [event.event async for event in events]

        assert rest == ["task.ready", "task.completed"]

    async def test_of_a_reader_that_leaves_hold_nothing(self, nats_url: str, bus: Client) -> None:
        tasks = FakeTasks()
        async with an_orchestrator(nats_url, tasks), a_gateway(nats_url) as client:
            task_id = tasks.add(state=TaskState.RUNNING)
            await say(bus, task_id, "accepted")

            async def held() -> tuple[int, int]:
                subscriptions = [
                    task for task in asyncio.all_tasks() if "Subscription" in repr(task.get_coro())
                ]
                return len(subscriptions), len(await followers(bus))

            async with following(client, task_id) as events:
                await anext(events)
                assert "octarm_gateway_streams 1.0" in (await client.get("/metrics")).text
            await wait_until(lambda: _is_released(bus))
            first = await held()
            for _ in range(3):
                async with following(client, task_id) as events:
                    await anext(events)

            await wait_until(lambda: _is_released(bus))
            assert await held() == first == (first[0], 0)
            assert "octarm_gateway_streams 0.0" in (await client.get("/metrics")).text

    async def test_are_closed_with_a_comment_when_the_gateway_drains(
        self, nats_url: str, bus: Client
    ) -> None:
        tasks = FakeTasks()
        async with an_orchestrator(nats_url, tasks), a_running_gateway(nats_url) as gateway:
            task_id = tasks.add(state=TaskState.RUNNING)
            async with (
                httpx.AsyncClient(base_url=gateway.url) as client,
                client.stream("GET", f"/v1/tasks/{task_id}/events") as response,
            ):
                await gateway.drain()
                text = await response.aread()

        assert text.endswith(b": closing, resume\n\n")

    async def test_a_result_that_is_waited_for_is_answered_when_the_gateway_drains(
        self, nats_url: str, bus: Client
    ) -> None:
        tasks = FakeTasks()
        async with an_orchestrator(nats_url, tasks), a_running_gateway(nats_url) as gateway:
            task_id = tasks.add(state=TaskState.RUNNING)
            async with httpx.AsyncClient(base_url=gateway.url) as client:
                waiting = asyncio.create_task(client.get(f"/v1/tasks/{task_id}/result?wait=60"))
                await wait_until(lambda: tasks.asked)
                async with asyncio.timeout(60):
                    await gateway.drain()
                response = await waiting

        assert response.status_code == 202


async def _is_released(bus: Client) -> bool:
    return not await followers(bus)


async def followers(bus: Client) -> list[str]:
    """The consumers of EVENTS that belong to a reader."""
    infos = await bus.jetstream().consumers_info(EVENTS)
    return [info.name for info in infos if not info.config.durable_name]
