"""An arm on a real nats-server, with the services around it played."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from octarm.models.contracts import TaskContract
from octarm.models.errors import Forbidden, Unavailable
from octarm.sdk import Arm, Context, serve_together
from tests.support.arm_stage import ArmStage, a_command, a_task, an_arm_stage
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture
async def stage(nats_url: str) -> AsyncGenerator[ArmStage, None]:
    async with an_arm_stage(nats_url) as stage:
        yield stage


def an_arm(handler: Any, **fields: Any) -> Arm:
    arm = Arm("worker", capabilities={"work"}, **fields)
    arm.run(handler)
    return arm


async def echo(task: TaskContract) -> dict[str, object]:
    return {"said": task.goal}


async def for_ever(task: TaskContract, ctx: Context) -> None:
    await asyncio.Event().wait()


class TestRunning:
    async def test_runs_what_is_dispatched_and_reports_the_result(self, stage: ArmStage) -> None:
        commands = [a_command(a_task(goal=f"goal {n}")) for n in range(30)]

        async with stage.serving(an_arm(echo)):
            await stage.dispatch("worker", *commands)
            results = [await stage.result_of(command) for command in commands]

        assert [r.output for r in results] == [{"said": f"goal {n}"} for n in range(30)]
        assert {r.status for r in results} == {"success"}
        assert results[0].provenance.arm_id == "worker"

    async def test_a_command_delivered_twice_runs_once_and_has_one_result(
        self, stage: ArmStage
    ) -> None:
        ran: list[str] = []

        async def note(task: TaskContract) -> None:
            ran.append(task.task_id)

        command = a_command(a_task())
        async with stage.serving(an_arm(note)):
            await stage.dispatch("worker", command)
            await stage.result_of(command)
            await stage.dispatch("worker", command, again="-again")
            await wait_until(lambda: len(stage.results) == 2)

        assert ran == [command.task_id]
        info = await stage.nc.jetstream().stream_info("OCTARM_RESULTS")
        assert info.state.messages == 1

    async def test_a_sync_handler_runs_in_a_thread_and_may_report(self, stage: ArmStage) -> None:
        def work(task: TaskContract, ctx: Context) -> str:
            ctx.progress(0.5, "half")
            ctx.emit("a piece")
            time.sleep(0.2)
            return threading.current_thread().name

        command = a_command(a_task())
        async with stage.serving(an_arm(work)):
            await stage.dispatch("worker", command)
            result = await stage.result_of(command)

        assert str(result.output).startswith("worker-")
        assert [chunk.text for chunk in stage.chunks] == ["a piece"]
        kinds = [update.kind for message in stage.updates for update in message.updates]
        assert kinds == ["started", "progress"]

    async def test_a_deadline_that_has_passed_keeps_the_handler_from_running(
        self, stage: ArmStage
    ) -> None:
        command = a_command(a_task(deadline=datetime.now(UTC) - timedelta(seconds=1)))
        async with stage.serving(an_arm(echo)):
            await stage.dispatch("worker", command)
            result = await stage.result_of(command)

        assert result.error is not None
        assert (result.error.code, result.retryable) == ("DEADLINE_EXCEEDED", False)

    async def test_what_takes_too_long_is_cut_off_and_may_be_retried(self, stage: ArmStage) -> None:
        command = a_command(a_task(timeout_seconds=1))
        async with stage.serving(an_arm(for_ever)):
            await stage.dispatch("worker", command)
            result = await stage.result_of(command)

        assert result.error is not None
        assert (result.error.code, result.retryable) == ("EXECUTION_TIMEOUT", True)

    async def test_takes_no_more_than_its_slots(self, stage: ArmStage) -> None:
        gate, most, now = asyncio.Event(), 0, 0

        async def hold(task: TaskContract) -> None:
            nonlocal most, now
            now += 1
            most = max(most, now)
            await gate.wait()
            now -= 1

        commands = [a_command(a_task()) for _ in range(12)]
        async with stage.serving(an_arm(hold, slots=3)):
            await stage.dispatch("worker", *commands)
            await wait_until(lambda: now == 3)
            gate.set()
            for command in commands:
                await stage.result_of(command)

        assert most == 3

    async def test_a_sampled_trace_goes_on_with_the_result(self, stage: ArmStage) -> None:
        traceparent = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
        traced, plain = a_command(a_task(), traceparent=traceparent), a_command(a_task())

        async with stage.serving(an_arm(echo)):
            await stage.dispatch("worker", traced)
            await stage.result_of(traced)
            await stage.dispatch("worker", plain)
            await stage.result_of(plain)

        assert [headers.get("traceparent") for headers in stage.result_headers] == [
            traceparent,
            None,
        ]


class TestCancelling:
    async def test_tells_a_running_handler_at_once(self, stage: ArmStage) -> None:
        async def polite(task: TaskContract, ctx: Context) -> str:
            await ctx.wait_cancelled()
            return "too late for output"

        command = a_command(a_task())
        async with stage.serving(an_arm(polite)):
            await stage.dispatch("worker", command)
            await wait_until(lambda: any(beat.running for beat in stage.beats))
            await stage.cancel("worker", command, "no longer needed")
            result = await stage.result_of(command)

        assert result.error is not None
        assert (result.error.code, result.retryable) == ("CANCELLED", False)
        assert result.error.detail == "no longer needed"
        assert result.output is None


class TestComingAndGoing:
    async def test_beats_with_what_it_runs(self, stage: ArmStage) -> None:
        command = a_command(a_task())
        async with stage.serving(an_arm(for_ever), drain_s=0.0):
            await stage.dispatch("worker", command)
            await wait_until(lambda: any(beat.running for beat in stage.beats))

        busy = next(beat for beat in stage.beats if beat.running)
        assert busy.running[0].task_id == command.task_id
        assert (busy.slots, busy.status) == (10, "ready")

    async def test_drains_by_finishing_what_runs(self, stage: ArmStage) -> None:
        release = asyncio.Event()

        async def hold(task: TaskContract) -> str:
            await release.wait()
            return "done"

        command = a_command(a_task())
        async with stage.serving(an_arm(hold)) as stop:
            await stage.dispatch("worker", command)
            await wait_until(lambda: any(beat.running for beat in stage.beats))
            stop.set()
            await wait_until(lambda: stage.beats[-1].status == "draining")
            release.set()
            result = await stage.result_of(command)

        await wait_until(lambda: stage.beats[-1].running == [])
        assert result.output == "done"

    async def test_hands_back_what_cannot_be_finished_in_time(self, stage: ArmStage) -> None:
        command = a_command(a_task())
        async with stage.serving(an_arm(for_ever), drain_s=0.1):
            await stage.dispatch("worker", command)
            await wait_until(lambda: any(beat.running for beat in stage.beats))

        result = await stage.result_of(command)
        assert result.error is not None
        assert (result.error.code, result.retryable) == ("ARM_UNAVAILABLE", True)

    async def test_registers_again_when_the_registry_has_forgotten_it(
        self, stage: ArmStage
    ) -> None:
        async with stage.serving(an_arm(echo), heartbeat_s=0.05):
            await wait_until(lambda: stage.known)
            stage.known.clear()

            await wait_until(lambda: "worker" in stage.known)

        assert stage.registrations == 2

    async def test_tries_until_the_registry_answers(self, stage: ArmStage) -> None:
        stage.refusal = Unavailable("starting")
        stop = asyncio.Event()
        arm = an_arm(echo)
        serving = asyncio.create_task(arm.serve(nats_url=stage.url, stop=stop))
        await wait_until(lambda: stage.registrations == 2)
        stage.refusal = None

        await wait_until(lambda: stage.beats)
        stop.set()
        await serving

    async def test_leaves_before_it_was_ever_registered(self, stage: ArmStage) -> None:
        stage.refusal = Unavailable("starting")
        stop = asyncio.Event()
        serving = asyncio.create_task(an_arm(echo).serve(nats_url=stage.url, stop=stop))
        await wait_until(lambda: stage.registrations)
        stop.set()

        await asyncio.wait_for(serving, 60)

        assert stage.beats == []

    async def test_an_order_it_cannot_read_is_dropped(self, stage: ArmStage) -> None:
        command = a_command(a_task())
        async with stage.serving(an_arm(echo)):
            await stage.nc.publish("octarm.v1.ctl.worker", b"{}")
            await stage.dispatch("worker", command)

            assert (await stage.result_of(command)).status == "success"

    async def test_gives_up_when_the_arm_belongs_to_somebody_else(self, stage: ArmStage) -> None:
        stage.refusal = Forbidden("another key owns this arm")

        with pytest.raises(Forbidden):
            await an_arm(echo).serve(nats_url=stage.url, stop=asyncio.Event())


def some_arms(handler: Any, count: int) -> list[Arm]:
    arms = [Arm(f"arm-{n}", capabilities={"work"}, slots=4) for n in range(count)]
    for arm in arms:
        arm.run(handler)
    return arms


@asynccontextmanager
async def serving_together(
    stage: ArmStage, *arms: Arm, drain_s: float = 5.0
) -> AsyncGenerator[asyncio.Task[None], None]:
    stop = asyncio.Event()
    served = serve_together(*arms, nats_url=stage.url, stop=stop, heartbeat_s=0.2, drain_s=drain_s)
    serving = asyncio.create_task(served)
    try:
        await wait_until(lambda: {it.arm_id for it in stage.beats} == {a.arm_id for a in arms})
        yield serving
    finally:
        stop.set()
        await serving


class TestTogether:
    async def test_each_runs_its_own_over_one_connection(self, stage: ArmStage) -> None:
        commands = {f"arm-{n}": [a_command(a_task()) for _ in range(3)] for n in range(5)}

        async with serving_together(stage, *some_arms(echo, 5)):
            for arm_id, some in commands.items():
                await stage.dispatch(arm_id, *some)
            results = [await stage.result_of(it) for some in commands.values() for it in some]

        assert [it.arm_id for it in results] == [name for name in commands for _ in range(3)]
        assert len({beat.instance_id for beat in stage.beats}) == 5
        info = await stage.nc.jetstream().stream_info("OCTARM_RESULTS")
        assert info.state.messages <= 15

    async def test_all_finish_what_runs_before_they_leave(self, stage: ArmStage) -> None:
        began: list[str] = []

        async def nap(task: TaskContract) -> None:
            began.append(task.task_id)
            await asyncio.sleep(0.5)

        commands = [a_command(a_task()) for _ in range(3)]
        async with serving_together(stage, *some_arms(nap, 3)):
            for n, command in enumerate(commands):
                await stage.dispatch(f"arm-{n}", command)
            await wait_until(lambda: len(began) == 3)

        results = [await stage.result_of(command) for command in commands]
        assert [it.status for it in results] == ["success"] * 3

    async def test_one_that_is_refused_ends_all_and_says_why(self, stage: ArmStage) -> None:
        stage.owned.add("arm-1")
        stop = asyncio.Event()

        with pytest.raises(Forbidden):
            await serve_together(*some_arms(echo, 3), nats_url=stage.url, stop=stop, drain_s=1)

        assert stop.is_set()

    async def test_all_register_again_soon_when_the_registry_has_forgotten_them(
        self, stage: ArmStage
    ) -> None:
        async with serving_together(stage, *some_arms(echo, 12)):
            assert len(stage.known) == 12

            stage.known.clear()

            await wait_until(lambda: len(stage.known) == 12, 10)
