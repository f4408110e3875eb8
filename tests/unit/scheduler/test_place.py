"""Reading and placing: what reaches the bus and when READY is acknowledged."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from octarm.common.bus.delivery import HELD, Dead
from octarm.common.bus.publisher import Fence
from octarm.common.telemetry import tracing
from octarm.common.testing.fakes import NOON, FakeClock, RecordingPublisher
from octarm.models.errors import Backpressure, PayloadTooLarge, Unavailable
from octarm.models.hot import ReadyTask, RunTask, RunTasks
from octarm.models.subjects import RUN_TASKS
from octarm.scheduler.domain.queue import OVERDUE_AFTER_S
from octarm.scheduler.usecases import dispatch
from octarm.scheduler.usecases.admit import AdmitTasks
from octarm.scheduler.usecases.desk import Desk
from octarm.scheduler.usecases.dispatch import Dispatch
from tests.support.scheduling import (
    FakeDelivery,
    a_desk,
    a_placer,
    an_empty_queue,
    facts,
    ready,
    task_id,
)
from tests.support.wait import wait_until

FENCE = Fence("octarm.v1.cmd.shard.lead.0", 7)


class Stage:
    """One shard with a recorded bus."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.bus = RecordingPublisher()
        self.admit = AdmitTasks(desk)
        self.dispatch = Dispatch(desk, self.bus, FENCE)
        self.place = a_placer(desk, self.dispatch)
        self.clock = cast(FakeClock, desk.clock)

    async def read(self, *tasks: ReadyTask, seq: int = 1) -> FakeDelivery:
        delivery = FakeDelivery(*tasks, seq=seq)
        assert await self.admit([delivery]) == [HELD]
        return delivery

    def commands(self, arm_id: str = "one") -> list[RunTask]:
        return [task for bundle in self.bundles(arm_id) for task in bundle.tasks]

    def bundles(self, arm_id: str = "one") -> list[RunTasks]:
        subject = RUN_TASKS.at(arm_id=arm_id)
        sent = [it.payload for it in self.bus.published if it.subject == subject]
        return [msgspec.json.decode(payload, type=RunTasks) for payload in sent]


def spans_in(folder: Path) -> list[dict[str, Any]]:
    lines = [line for file in folder.iterdir() for line in file.read_text().splitlines()]
    return [json.loads(line) for line in lines]


@pytest.fixture
def stage() -> Stage:
    return Stage(a_desk(facts("one"), slots=2))


class TestAdmitting:
    async def test_what_does_not_parse_is_dead(self, stage: Stage) -> None:
        broken = [FakeDelivery(data=data) for data in (b"{", b'{"tasks":[]}', b'{"tasks":[{}]}')]

        outcomes = await stage.admit(broken)

        assert all(isinstance(outcome, Dead) for outcome in outcomes)
        assert not stage.desk.holds

    async def test_a_message_that_comes_again_renews_the_handle(self, stage: Stage) -> None:
        stage.desk.fleet.unlearn("one")
        first = await stage.read(ready())
        again = await stage.read(ready())

        stage.desk.arm_learned(facts("one"))
        await stage.place.cycle()

        assert (first.acked, again.acked) == (0, 1)
        assert len(stage.commands()) == 1

    async def test_a_number_used_again_is_a_message_of_a_stream_made_anew(
        self, stage: Stage
    ) -> None:
        stage.desk.fleet.unlearn("one")
        old = FakeDelivery(ready(1))
        new = FakeDelivery(ready(2), published_at=NOON + timedelta(hours=1))
        await stage.admit([old])
        await stage.admit([new])
        waiting = len(stage.desk.queue)

        stage.desk.arm_learned(facts("one"))
        await stage.place.cycle()

        assert waiting == 2
        assert len(stage.commands()) == 2
        assert (old.acked, new.acked) == (0, 1)

    async def test_a_copy_in_another_message_takes_its_place(self, stage: Stage) -> None:
        older = await stage.read(ready(), seq=1)
        newer = await stage.read(ready(), seq=2)

        assert (older.acked, newer.acked) == (1, 0)
        assert len(stage.desk.queue) == 1

    async def test_what_waited_under_an_earlier_leadership_is_never_placed(self) -> None:
        stage = Stage(a_desk(facts("one"), slots=1))
        await stage.read(ready(1), ready(2))
        await stage.place.cycle()
        await stage.place.cycle()

        stage.desk.clear(an_empty_queue(stage.desk.fleet))
        stage.desk.fleet.release(task_id(1), 1)
        await stage.read(ready(3), seq=9)
        await stage.place.cycle()

        assert [command.task_id for command in stage.commands()] == [task_id(1), task_id(3)]

    async def test_a_newer_attempt_replaces_an_older_and_not_the_other_way(
        self, stage: Stage
    ) -> None:
        one = await stage.read(ready(), seq=1)
        two = await stage.read(ready(attempt=2), seq=2)
        late = await stage.read(ready(), seq=3)

        assert (one.acked, two.acked, late.acked) == (1, 0, 1)
        task = stage.desk.queue.get(task_id(1))
        assert task is not None
        assert task.attempt == 2

    async def test_what_was_called_off_before_it_came_is_settled(self, stage: Stage) -> None:
        stage.desk.queue.call_off(task_id(1), 1)

        delivery = await stage.read(ready())

        assert delivery.acked == 1
        assert len(stage.desk.queue) == 0

    async def test_what_is_under_way_already_is_settled(self, stage: Stage) -> None:
        desk = stage.desk
        desk.fleet.reserve(desk.fleet.pool("one"), (task_id(1), 1), now=1000.0)

        assert (await stage.read(ready())).acked == 1

    async def test_stops_reading_at_its_capacity(self) -> None:
        stage = Stage(a_desk(capacity=128))
        assert stage.desk.room() == 2

        await stage.read(*[ready(number) for number in range(64)])
        assert (stage.desk.room(), stage.desk.full) == (1, False)
        await stage.read(ready(99), seq=2)

        assert (stage.desk.room(), stage.desk.full) == (0, True)


class TestPlacing:
    async def test_acknowledges_a_message_when_all_its_tasks_are_dispatched(
        self, stage: Stage
    ) -> None:
        delivery = await stage.read(ready(1), ready(2), ready(3))

        assert await stage.place.cycle() == 2
        (bundle,) = stage.bundles()
        assert (bundle.shard, bundle.arm_id, bundle.policy) == (0, "one", "priority")
        command, second = bundle.tasks
        assert (command.task_id, command.attempt) == (task_id(1), 1)
        assert bytes(command.task) == b'{"goal":"x"}'
        assert (command.reason, command.scores[0].arm_id) == ("the only arm with room", "one")
        assert second.task_id == task_id(2)
        assert {message.fence for message in stage.bus.published} == {FENCE}
        flight = stage.desk.fleet.flight(task_id(2), 1)
        assert flight is not None
        assert flight.dispatch_seq == 1
        assert delivery.acked == 0

        stage.desk.fleet.release(task_id(1), 1)
        await stage.place.cycle()
        assert delivery.acked == 1
        assert not stage.desk.holds

    async def test_an_unsampled_trace_travels_in_the_body_alone(self, stage: Stage) -> None:
        unsampled = f"00-{'a' * 32}-{'b' * 16}-00"
        await stage.read(ready(traceparent=unsampled))

        await stage.place.cycle()

        assert stage.commands()[0].traceparent == unsampled
        assert stage.bus.published[0].head == b""

    async def test_a_sampled_task_gets_a_span_that_the_arm_continues(
        self, stage: Stage, tmp_path: Path
    ) -> None:
        parent = f"00-{'a' * 32}-{'b' * 16}-01"
        tracing.setup_tracing("scheduler", f"file:{tmp_path}", sample=0)
        try:
            await stage.read(ready(traceparent=parent))
            await stage.place.cycle()
        finally:
            tracing.shutdown()

        (span,) = spans_in(tmp_path)
        assert (span["name"], span["parent_id"]) == ("scheduler.place", "b" * 16)
        own = f"00-{'a' * 32}-{span['span_id']}-01"
        assert stage.commands()[0].traceparent == own
        assert stage.bus.published[0].head == f"traceparent: {own}\r\n".encode()

    async def test_a_failed_dispatch_waits_and_is_tried_again(self, stage: Stage) -> None:
        stage.bus.refused[RUN_TASKS.at(arm_id="one")] = Backpressure("full", code="QUEUE_FULL")
        delivery = await stage.read(ready())

        await stage.place.cycle()
        assert len(stage.desk.queue) == 1
        assert not stage.desk.fleet.pool("one").flights
        assert await stage.place.cycle() == 0

        stage.bus.refused.clear()
        stage.clock.advance(dispatch.PAUSE_S)
        assert await stage.place.cycle() == 1
        assert delivery.acked == 1

    async def test_what_can_never_be_dispatched_does_not_block_the_arm(self, stage: Stage) -> None:
        stage.bus.refused[RUN_TASKS.at(arm_id="one")] = PayloadTooLarge("too large for the bus")
        delivery = await stage.read(ready())

        await stage.place.cycle()

        assert delivery.acked == 1
        assert stage.desk.fleet.pool("one").free == 2

    async def test_an_overdue_task_is_dropped_and_settled(self, stage: Stage) -> None:
        delivery = await stage.read(ready(deadline=NOON + timedelta(seconds=1)))
        stage.clock.advance(OVERDUE_AFTER_S + 1)

        assert await stage.place.cycle() == 0
        assert delivery.acked == 1

    async def test_a_clock_that_is_ahead_withholds_no_task(self, stage: Stage) -> None:
        await stage.read(ready(deadline=NOON + timedelta(seconds=60)))
        stage.clock.advance(300)

        assert await stage.place.cycle() == 1

    async def test_asks_for_more_when_it_was_full(self) -> None:
        stage = Stage(a_desk(facts("one"), slots=2, capacity=64))
        asked: list[int] = []
        stage.desk.more_room = lambda: asked.append(1)
        await stage.read(ready())
        stage.desk.room()

        await stage.place.cycle()

        assert asked == [1]


class TestRunning:
    async def test_runs_a_cycle_for_each_change_and_sleeps_in_between(self, stage: Stage) -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(stage.place.run(stop))
        delivery = await stage.read(ready(1), ready(2), ready(3, tier="batch"))
        await wait_until(lambda: len(stage.commands()) == 2)

        stage.desk.fleet.release(task_id(1), 1)
        stage.desk.poke()
        await wait_until(lambda: delivery.acked == 1)

        stop.set()
        stage.desk.poke()
        await running

    async def test_a_timer_ends_a_pause(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dispatch, "PAUSE_S", 0.02)
        stop = asyncio.Event()
        stage.bus.refused[RUN_TASKS.at(arm_id="one")] = Unavailable("gone")
        running = asyncio.create_task(stage.place.run(stop))
        await stage.read(ready())
        await wait_until(lambda: stage.desk.fleet.pool("one").paused_until)

        stage.bus.refused.clear()
        stage.clock.advance(1)
        await wait_until(lambda: len(stage.commands()) == 1)

        stop.set()
        stage.desk.poke()
        await running
