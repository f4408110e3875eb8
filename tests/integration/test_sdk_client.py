"""A client on a real nats-server, with the orchestrator played."""

import asyncio
import threading
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from octarm.models import events
from octarm.models.contracts import TaskSubmission
from octarm.models.errors import (
    Backpressure,
    InvalidRequest,
    NotFound,
    TaskFailed,
    TimedOut,
    Unavailable,
)
from octarm.models.ids import new_id
from octarm.models.states import TaskState
from octarm.sdk import Client, SubmissionsRefused, SyncClient
from tests.support.client_stage import ClientStage, a_client_stage
from tests.support.wait import PATIENCE_S, wait_until

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture
async def stage(nats_url: str) -> AsyncGenerator[ClientStage, None]:
    async with a_client_stage(nats_url) as stage:
        yield stage


@pytest_asyncio.fixture
async def client(stage: ClientStage) -> AsyncGenerator[Client, None]:
    async with Client(stage.url, sweep_s=0.2) as client:
        yield client


class TestSubmitting:
    async def test_gives_the_result_of_a_task_that_succeeds(
        self, stage: ClientStage, client: Client
    ) -> None:
        task = await client.submit(goal="count", context={"n": 1}, priority="high")
        await stage.finish(task.id, {"count": 7})

        result = await task.result(timeout=PATIENCE_S)

        assert result.output == {"count": 7}
        assert task.state is TaskState.COMPLETED
        assert stage.rows[task.id].task.priority == 3

    async def test_submits_many_in_requests_of_at_most_five_hundred(
        self, stage: ClientStage, client: Client
    ) -> None:
        goals = [f"goal {n}" for n in range(1201)]
        given = [
            {"goal": goal} if n % 2 else TaskSubmission(goal=goal) for n, goal in enumerate(goals)
        ]

        tasks = await client.submit_many(given)

        assert stage.requests == 3
        assert [stage.rows[task.id].task.goal for task in tasks] == goals

    async def test_an_end_before_the_answer_is_not_missed(
        self, stage: ClientStage, client: Client
    ) -> None:
        stage.finish_at_once = True
        tasks = await client.submit_many([{"goal": str(n)} for n in range(20)])

        for task in tasks:
            assert (await task.result(timeout=PATIENCE_S)).output == "done"

        assert stage.state_queries == 0

    async def test_waits_out_backpressure(self, stage: ClientStage, client: Client) -> None:
        stage.refusals = [Backpressure("full", retry_after_s=1), Unavailable("starting")]

        task = await client.submit(goal="count")

        assert task.id in stage.rows
        assert stage.requests == 3

    async def test_gives_up_when_the_time_is_up(self, stage: ClientStage, client: Client) -> None:
        stage.refusals = [Backpressure("full", retry_after_s=9)]

        with pytest.raises(Backpressure, match="full"):
            await client.submit(goal="count", timeout=0.5)

    async def test_an_answer_that_was_lost_does_not_double_the_task(
        self, stage: ClientStage, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("octarm.sdk.submitter.REQUEST_TIMEOUT_S", 0.2)
        stage.silent_requests = 1

        task = await client.submit(goal="count")

        assert stage.requests == 2
        assert list(stage.rows) == [task.id]

    async def test_says_which_submissions_were_refused(
        self, stage: ClientStage, client: Client
    ) -> None:
        with pytest.raises(SubmissionsRefused) as refusal:
            await client.submit_many([{"goal": "count"}, {"goal": "refuse me"}])

        assert refusal.value.refused[1].code == "INVALID_PLAN"
        assert refusal.value.accepted[0].id in stage.rows
        with pytest.raises(InvalidRequest, match="refused"):
            await client.submit(goal="refuse me")


class TestFollowing:
    async def test_raises_why_a_task_failed(self, stage: ClientStage, client: Client) -> None:
        task = await client.submit(goal="count")
        await stage.fail(task.id, TimedOut("too slow", code="EXECUTION_TIMEOUT"))

        with pytest.raises(TaskFailed, match="too slow") as failure:
            await task.result(timeout=PATIENCE_S)

        assert failure.value.code == "EXECUTION_TIMEOUT"
        assert await task.wait() is TaskState.FAILED

    async def test_finds_out_about_an_end_that_nobody_told(
        self, stage: ClientStage, client: Client
    ) -> None:
        task = await client.submit(goal="count")
        await stage.finish(task.id, "found", tell=False)

        assert (await task.result(timeout=PATIENCE_S)).output == "found"

    async def test_fetches_a_result_too_large_for_its_event(
        self, stage: ClientStage, client: Client
    ) -> None:
        task = await client.submit(goal="count")
        await stage.finish(task.id, "x" * 70_000, tell=False)
        await stage.announce(events.TaskCompleted, task.id)

        assert len(str((await task.result(timeout=PATIENCE_S)).output)) == 70_000

    async def test_can_wait_again_after_a_timeout(self, stage: ClientStage, client: Client) -> None:
        task = await client.submit(goal="count")
        with pytest.raises(TimeoutError):
            await task.result(timeout=0.05)

        await stage.finish(task.id)

        assert (await task.result(timeout=PATIENCE_S)).output == "done"

    async def test_yields_tasks_as_they_end(self, stage: ClientStage, client: Client) -> None:
        slow, bad, quick = await client.submit_many([{"goal": g} for g in ("slow", "bad", "quick")])
        await stage.finish(quick.id)

        seen = []
        async for task, result in client.as_completed([slow, bad, quick], timeout=PATIENCE_S):
            seen.append((task.id, type(result).__name__))
            if len(seen) == 1:
                await stage.fail(bad.id, TimedOut("too slow"))
            if len(seen) == 2:
                await stage.finish(slow.id)

        assert seen == [
            (quick.id, "ExecutionResult"),
            (bad.id, "TaskFailed"),
            (slow.id, "ExecutionResult"),
        ]

    async def test_takes_up_a_task_that_was_submitted_elsewhere(
        self, stage: ClientStage, client: Client
    ) -> None:
        submitted = await client.submit(goal="count")
        await stage.finish(submitted.id, tell=False)
        async with Client(stage.url) as another:
            assert (await another.task(submitted.id).result(timeout=PATIENCE_S)).output == "done"
            with pytest.raises(NotFound):
                await another.task(new_id("tsk")).result(timeout=PATIENCE_S)
            with pytest.raises(NotFound):
                await another.task(new_id("tsk")).wait(timeout=PATIENCE_S)

    async def test_cancels_shows_and_finds(self, stage: ClientStage, client: Client) -> None:
        task = await client.submit(goal="count")

        assert (await task.show()).task.goal == "count"
        assert [view.task_id for view in (await client.find(limit=5)).tasks] == [task.id]
        assert await task.cancel("no longer needed") is TaskState.CANCELLED
        with pytest.raises(TaskFailed, match="no longer needed") as failure:
            await task.result(timeout=PATIENCE_S)
        assert failure.value.code == "CANCELLED"


class TestEvents:
    async def test_yields_a_task_s_events_up_to_its_end(
        self, stage: ClientStage, client: Client
    ) -> None:
        task = await client.submit(goal="count")
        await stage.announce(events.TaskAccepted, task.id)
        await stage.announce(events.TaskReady, task.id)
        await stage.finish(task.id)

        seen = [event async for event in task.events()]
        rest = [event.type async for event in task.events(after=seen[0].place)]

        assert [event.type for event in seen] == ["task.accepted", "task.ready", "task.completed"]
        assert rest == ["task.ready", "task.completed"]
        assert seen[0].task_id == task.id

    async def test_yields_what_happens_from_now_on(
        self, stage: ClientStage, client: Client
    ) -> None:
        first = await client.submit(goal="first")
        await stage.announce(events.TaskAccepted, first.id)
        stream = client.events()
        coming = asyncio.ensure_future(anext(stream))
        second = await client.submit(goal="second")

        async def told() -> bool:
            # Nobody says when "now" has been: whatever is told once it was, comes.
            await stage.announce(events.TaskAccepted, second.id)
            return coming.done()

        await wait_until(told)
        event = await coming
        await stream.aclose()

        assert event.task_id == second.id

    async def test_goes_on_where_it_was_when_its_consumer_is_gone(
        self, stage: ClientStage, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("octarm.common.bus.history.FETCH_S", 0.2)
        task = await client.submit(goal="count")
        await stage.announce(events.TaskAccepted, task.id)
        stream = task.events()
        seen = [(await anext(stream)).type]
        js = stage.nc.jetstream()
        for consumer in await js.consumers_info("OCTARM_EVENTS"):
            if consumer.name != "memory-remember-task":
                await js.delete_consumer("OCTARM_EVENTS", consumer.name)

        await stage.announce(events.TaskReady, task.id)
        await stage.finish(task.id)
        seen += [event.type async for event in stream]

        assert seen == ["task.accepted", "task.ready", "task.completed"]


class TestSyncClient:
    async def test_does_the_same_without_async(self, stage: ClientStage) -> None:
        stage.finish_at_once = True

        def script() -> list[str]:
            with SyncClient(stage.url) as client:
                one = client.submit(goal="one")
                many = client.submit_many([{"goal": "two"}, {"goal": "three"}])
                outputs = [str(one.result(timeout=PATIENCE_S).output)]
                for _, result in client.as_completed(many, timeout=PATIENCE_S):
                    outputs.append(type(result).__name__)
                outputs += [event.type for event in one.events()]
                assert one.wait() is TaskState.COMPLETED
                assert one.id in repr(one)
                assert client.get(one.id).task.goal == one.show().task.goal == "one"
                assert len(client.find(limit=2).tasks) == 2
                assert client.task(one.id).cancel() is TaskState.CANCELLED
                assert client.cancel(one.id).state is TaskState.CANCELLED
                assert next(iter(client.events(after=0))).task_id == one.id
                with pytest.raises(SubmissionsRefused) as refusal:
                    client.submit_many([{"goal": "four"}, {"goal": "refuse me"}])
                assert refusal.value.accepted[0].result(timeout=PATIENCE_S).output == "done"
                return outputs

        outputs = await asyncio.to_thread(script)

        assert outputs == ["done", "ExecutionResult", "ExecutionResult", "task.completed"]
        assert "octarm-client" not in [thread.name for thread in threading.enumerate()]

    def test_says_that_nobody_answers(self) -> None:
        with pytest.raises(Unavailable), SyncClient("nats://127.0.0.1:9"):
            pass
