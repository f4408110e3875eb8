"""The worker with fakes around it: each attempt is settled once, whatever its handler does."""

import asyncio
import json
import threading
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from octarm.clients.episodes import EpisodeWriter
from octarm.clients.memory import MemoryClient
from octarm.common.bus.delivery import ACK, HELD, Dead, Retry
from octarm.models.contracts import ResourceBudget, TaskContract
from octarm.models.episodes import EpisodesFound, FindEpisodes
from octarm.models.errors import InvalidRequest, OctarmError, Unavailable
from octarm.models.ids import new_id
from octarm.models.results import ExecutionResult, ProvenanceMetadata
from octarm.sdk import Context
from octarm.sdk.recall import Recall
from tests.support.wait import wait_until
from tests.support.workers import (
    Arrangement,
    FakeDelivery,
    a_command,
    code_of,
    delivered,
)


def a_given_result(task: TaskContract, **fields: Any) -> ExecutionResult:
    provenance = ProvenanceMetadata(
        arm_id="worker",
        timestamp=datetime.now(UTC),
        command_hash="0" * 64,
        **fields.pop("provenance", {}),
    )
    return ExecutionResult(
        task_id=task.task_id,
        attempt=1,
        arm_id="worker",
        instance_id="i-1",
        status="success",
        execution_time_ms=1,
        provenance=provenance,
        **fields,
    )


async def done(task: TaskContract) -> str:
    return "done"


class TestOutcomes:
    async def test_a_named_error_keeps_its_code(self) -> None:
        async def refuse(task: TaskContract) -> None:
            raise InvalidRequest("no text in the context")

        result = await Arrangement(refuse).run(a_command())

        assert (code_of(result), result.retryable) == ("INVALID_REQUEST", False)

    @pytest.mark.parametrize("error", [ValueError("broken"), SystemExit("broken")])
    async def test_any_other_error_is_internal_and_may_be_retried(
        self, error: BaseException
    ) -> None:
        async def break_down(task: TaskContract) -> None:
            raise error

        result = await Arrangement(break_down).run(a_command())

        assert (code_of(result), result.retryable) == ("INTERNAL", True)
        assert result.error is not None
        assert result.error.detail == f"{type(error).__name__}: broken"

    @pytest.mark.parametrize(
        "error",
        [
            Unavailable("broken", retry_after_s=0),
            OctarmError("broken", code="not-a-code"),
            OSError("broken \udcff"),
        ],
    )
    async def test_an_error_that_no_problem_can_say_ends_the_attempt_all_the_same(
        self, error: Exception
    ) -> None:
        async def break_down(task: TaskContract) -> None:
            raise error

        arrangement = Arrangement(break_down)
        result = await arrangement.run(a_command())

        assert code_of(result) == "INTERNAL"
        assert result.error is not None
        assert "broken" in result.error.detail
        await wait_until(lambda: arrangement.worker.capacity() == 2)

    @pytest.mark.parametrize(
        "spoiled",
        [{"output": "\udcff"}, {"provenance": {"chain": ["x" * 4000] * 300}}],
    )
    async def test_a_result_that_cannot_travel_is_a_failure(self, spoiled: dict[str, Any]) -> None:
        async def give(task: TaskContract) -> ExecutionResult:
            return a_given_result(task, **spoiled)

        arrangement = Arrangement(give)
        result = await arrangement.run(a_command())

        assert (result.status, result.retryable) == ("failure", False)
        await wait_until(lambda: arrangement.worker.capacity() == 2)

    async def test_an_output_too_deep_to_be_read_again_is_a_failure(self) -> None:
        deep: list[Any] = []
        for _ in range(300):
            deep = [deep]

        async def give(task: TaskContract) -> list[Any]:
            return deep

        assert code_of(await Arrangement(give).run(a_command())) == "INTERNAL"

    async def test_a_cancellation_from_inside_is_a_failure(self) -> None:
        async def cancel_itself(task: TaskContract) -> None:
            raise asyncio.CancelledError

        assert code_of(await Arrangement(cancel_itself).run(a_command())) == "INTERNAL"

    async def test_an_output_that_is_not_json_is_a_failure_for_good(self) -> None:
        async def return_an_object(task: TaskContract) -> object:
            return object()

        result = await Arrangement(return_an_object).run(a_command())

        assert (code_of(result), result.retryable) == ("INTERNAL", False)

    async def test_an_output_that_is_too_large_is_refused_with_a_hint(self) -> None:
        async def talk(task: TaskContract) -> str:
            return "x" * 140_000

        result = await Arrangement(talk).run(a_command())

        assert code_of(result) == "PAYLOAD_TOO_LARGE"
        assert result.error is not None
        assert result.error.recovery_hint

    async def test_a_whole_result_is_taken_with_the_attempt_s_own_ids(self) -> None:
        size = 1

        async def judge(task: TaskContract, ctx: Context) -> ExecutionResult:
            ctx.spend(tokens=7)
            return ExecutionResult(
                task_id=new_id("tsk"),
                attempt=9,
                arm_id="other",
                instance_id="other",
                status="success",
                output="x" * size,
                confidence=0.5,
                execution_time_ms=1,
                provenance=ProvenanceMetadata(
                    arm_id="worker", timestamp=datetime.now(UTC), command_hash="0" * 64
                ),
            )

        command = a_command()
        result = await Arrangement(judge).run(command)
        size = 140_000
        refused = await Arrangement(judge).run(a_command())

        assert (result.task_id, result.attempt) == (command.task_id, 1)
        assert (result.arm_id, result.instance_id) == ("worker", "i-1")
        assert (result.confidence, result.tokens_used) == (0.5, 7)
        assert code_of(refused) == "PAYLOAD_TOO_LARGE"

    async def test_going_over_the_budget_ends_the_attempt(self) -> None:
        async def spend(task: TaskContract, ctx: Context) -> None:
            await ctx.spend(tokens=60, call_no=1)
            await ctx.spend(tokens=60, call_no=1)
            await ctx.spend(tokens=60, call_no=2)

        result = await Arrangement(spend).run(a_command(budget=ResourceBudget(max_tokens=100)))

        assert (code_of(result), result.tokens_used) == ("BUDGET_EXCEEDED", 120)


class TestTaking:
    async def test_what_it_cannot_read_is_dead(self) -> None:
        (outcome,) = await Arrangement(done).deliver(FakeDelivery(b"{}"))

        assert isinstance(outcome, Dead)

    async def test_a_task_that_breaks_its_contract_fails_for_good(self) -> None:
        body = json.loads(delivered(a_command()).data)
        body["tasks"][0]["task"]["goal"] = ""
        arrangement = Arrangement(done)

        await arrangement.deliver(FakeDelivery(json.dumps(body).encode()))

        assert code_of(await arrangement.result()) == "INVALID_REQUEST"

    async def test_an_attempt_that_runs_is_not_started_again(self) -> None:
        release, started = asyncio.Event(), 0

        async def hold(task: TaskContract) -> None:
            nonlocal started
            started += 1
            await release.wait()

        arrangement = Arrangement(hold)
        command = a_command()
        outcomes = await arrangement.deliver(delivered(command), delivered(command))
        release.set()
        await arrangement.result()

        assert (outcomes, started) == ([ACK, ACK], 1)

    async def test_what_finds_no_slot_waits_and_is_acknowledged_at_its_start(self) -> None:
        release = asyncio.Event()

        async def hold(task: TaskContract) -> None:
            await release.wait()

        arrangement = Arrangement(hold, slots=1)
        first, second = delivered(a_command()), delivered(a_command())
        outcomes = await arrangement.deliver(first, second)
        waiting = second.settled
        release.set()
        await wait_until(lambda: len(arrangement.published) == 2)

        assert outcomes == [ACK, HELD]
        assert (waiting, second.settled) == ("", "ack")

    async def test_what_waited_so_long_that_another_may_have_it_goes_back(self) -> None:
        release = asyncio.Event()

        async def hold(task: TaskContract) -> None:
            await release.wait()

        arrangement = Arrangement(hold, slots=1, held_s=0.0)
        first, second = delivered(a_command()), delivered(a_command())
        await arrangement.deliver(first, second)
        release.set()
        await wait_until(lambda: second.settled)

        assert second.settled == "retry"
        assert arrangement.worker.capacity() == 1

    async def test_an_attempt_called_off_before_it_came_is_not_run(self) -> None:
        arrangement = Arrangement(done)
        command = a_command()
        arrangement.cancel(command, "too late")

        assert code_of(await arrangement.run(command)) == "CANCELLED"
        assert "started" not in arrangement.reports.said


class TestCutting:
    async def test_an_attempt_that_waits_for_a_slot_answers_that_it_never_will_run(self) -> None:
        going_on = asyncio.Event()

        async def hold(task: TaskContract) -> None:
            await going_on.wait()

        arrangement = Arrangement(hold, slots=1)
        waiting, held = a_command(), delivered(a_command())
        await arrangement.deliver(held, delivery := delivered(waiting))
        arrangement.cancel(waiting, "enough")
        result = await arrangement.result()
        going_on.set()
        await arrangement.worker.drain(1)

        assert (result.task_id, code_of(result)) == (waiting.task_id, "CANCELLED")
        assert delivery.settled == "ack"

    async def test_an_attempt_that_has_ended_answers_with_its_result_again(self) -> None:
        arrangement, command = Arrangement(done), a_command()
        await arrangement.run(command)

        arrangement.cancel(command)

        first, again = arrangement.published
        assert again is first

    async def test_a_handler_that_ignores_its_cancellation_is_cut_off(self) -> None:
        release, spoke = asyncio.Event(), []

        async def ignore(task: TaskContract, ctx: Context) -> str:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    spoke.append(ctx.cancelled)
                    ctx.emit("still here")
            return "output"

        arrangement = Arrangement(ignore, slots=1)
        command = a_command()
        await arrangement.deliver(delivered(command))
        await asyncio.sleep(0)
        arrangement.cancel(command, "stop")
        arrangement.cancel(command, "stop again")
        result = await arrangement.result()
        await wait_until(lambda: spoke)

        assert (code_of(result), result.retryable) == ("CANCELLED", False)
        assert (arrangement.worker.abandoned(), arrangement.worker.capacity()) == (1, 0)
        assert arrangement.worker.running() == []
        release.set()
        await wait_until(lambda: arrangement.worker.capacity() == 1)
        assert len(arrangement.published) == 1
        assert arrangement.reports.said == ["started", "ended"]

    async def test_a_thread_keeps_its_slot_until_it_ends(self) -> None:
        release = threading.Event()
        arrangement = Arrangement(lambda task: release.wait(10), slots=1)
        command = a_command()
        await arrangement.deliver(delivered(command))
        arrangement.cancel(command)
        result = await arrangement.result()

        assert code_of(result) == "CANCELLED"
        assert arrangement.worker.capacity() == 0
        release.set()
        await wait_until(lambda: arrangement.worker.capacity() == 1)
        await arrangement.worker.drain(0)

    async def test_draining_returns_what_waits_and_what_comes(self) -> None:
        async def for_ever(task: TaskContract) -> None:
            await asyncio.Event().wait()

        arrangement = Arrangement(for_ever, slots=1)
        waiting = delivered(a_command())
        await arrangement.deliver(delivered(a_command()), waiting)
        await arrangement.worker.drain(0.01)
        result = await arrangement.result()
        (outcome,) = await arrangement.deliver(delivered(a_command()))

        assert (code_of(result), result.retryable) == ("ARM_UNAVAILABLE", True)
        assert waiting.settled == "retry"
        assert outcome == Retry(0.0)


class TestContext:
    async def test_a_sync_handler_awaits_through_the_event_loop(self) -> None:
        def work(task: TaskContract, ctx: Context) -> list[object]:
            ctx.progress(7, "done")
            key = ctx.idempotency_key(3)
            return [ctx.wait(asyncio.sleep(0, "slept")), key, ctx.spent.tokens, ctx.cancelled]

        arrangement = Arrangement(work)
        command = a_command()
        result = await arrangement.run(command)
        await arrangement.worker.drain(1)

        assert result.output == ["slept", f"{command.task_id}:3", 0, False]
        assert (1.0, "done") in arrangement.reports.said

    async def test_says_what_the_budget_still_allows(self) -> None:
        async def look(task: TaskContract, ctx: Context) -> list[object]:
            with ctx.span("looking") as span:
                ctx.log.debug("looked", span=span.traceparent)
            with pytest.raises(RuntimeError, match="sync handlers"):
                ctx.wait(asyncio.sleep(0))
            await ctx.spend(tokens=40, cost_dollars=0.1, llm_calls=1)
            left = ctx.left
            return [left.tokens, left.cost_dollars, left.llm_calls]

        result = await Arrangement(look).run(
            a_command(budget=ResourceBudget(max_tokens=100, max_cost_dollars=0.5))
        )

        assert result.output == [60, 0.4, None]

    @pytest.mark.parametrize(
        "spent", [{"tokens": -1}, {"tokens": 1.5}, {"tokens": 2**60}, {"cost_dollars": 1e10}]
    )
    async def test_nothing_can_be_spent_that_no_result_can_tell(self, spent: Any) -> None:
        async def cheat(task: TaskContract, ctx: Context) -> None:
            ctx.spend(**spent)

        assert code_of(await Arrangement(cheat).run(a_command())) == "INTERNAL"

    async def test_what_no_utf8_can_say_spoils_no_report(self) -> None:
        async def tell(task: TaskContract, ctx: Context) -> None:
            ctx.progress(0.5, "file \udcff")
            ctx.emit("file \udcff")

        arrangement = Arrangement(tell)
        result = await arrangement.run(a_command())

        assert result.status == "success"
        assert (0.5, "file ?") in arrangement.reports.said
        assert (0, "file ?") in arrangement.reports.said


class FakeMemory:
    def __init__(self) -> None:
        self.asked: list[FindEpisodes] = []

    async def find_episodes(self, query: FindEpisodes) -> EpisodesFound:
        self.asked.append(query)
        return EpisodesFound(episodes=[])

    async def get_episode(self, tenant: str, episode_id: str) -> str:
        return f"{tenant}/{episode_id}"


class TestRecall:
    async def test_asks_for_this_arm_s_episodes_with_the_tenant(self) -> None:
        memory = FakeMemory()
        recall = Recall(
            cast(MemoryClient, memory), "acme", "worker", cast(EpisodeWriter, None), new_id("tsk")
        )
        task_id = new_id("tsk")

        assert await recall.recent(3) == await recall.of_task(task_id) == []
        assert cast(object, await recall.episode("epi")) == "acme/epi"
        assert [(q.tenant, q.arm_id, q.task_id, q.limit) for q in memory.asked] == [
            ("acme", "worker", None, 3),
            ("acme", None, task_id, 50),
        ]


class TestThreads:
    async def test_an_error_in_a_thread_is_the_attempt_s(self) -> None:
        def stop(task: TaskContract) -> None:
            raise StopIteration

        arrangement = Arrangement(stop)
        result = await arrangement.run(a_command())
        await arrangement.worker.drain(0)

        assert result.error is not None
        assert "StopIteration" in result.error.detail
