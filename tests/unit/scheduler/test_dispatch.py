"""Bundles of run commands: their size, and what becomes of them when the bus does not answer."""

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from octarm.common.bus.publisher import Fence, Fenced, Outgoing, PubAck, Unacknowledged
from octarm.common.testing.fakes import NOON, RecordingPublisher
from octarm.models.commands import bundle_size
from octarm.models.errors import Backpressure, OctarmError, PayloadTooLarge
from octarm.models.hot import RunTasks
from octarm.models.subjects import RUN_TASKS
from octarm.scheduler.domain.cycle import Placement
from octarm.scheduler.usecases import place
from octarm.scheduler.usecases.desk import Desk
from octarm.scheduler.usecases.dispatch import Dispatch
from tests.support.scheduling import a_desk, a_placer, beat, facts, ready, task_id, waiting
from tests.support.wait import wait_until

FENCE = Fence("octarm.v1.cmd.shard.lead.0", 7)

ONE = RUN_TASKS.at(arm_id="one")
LATE = Unacknowledged("no answer")


class Bus(RecordingPublisher):
    """Remembers every try, refused or not."""

    def __init__(self) -> None:
        super().__init__()
        self.tries: list[Outgoing] = []

    async def publish_many(self, messages: Sequence[Outgoing]) -> list[PubAck | OctarmError]:
        self.tries += messages
        return await super().publish_many(messages)


class Stage:
    """The end of a cycle: tasks were placed, now they are sent."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.bus, self.connection = desk, Bus(), 1
        self.dispatch = Dispatch(desk, self.bus, FENCE, connection=lambda: self.connection)
        self.place = a_placer(desk, self.dispatch)

    async def send(self, *numbers: int, arm_id: str = "one") -> int:
        arm = self.desk.fleet.pool(arm_id)
        decisions = [Placement(waiting(ready(n)), arm, "so", []) for n in numbers]
        for decision in decisions:
            self.desk.fleet.reserve(arm, decision.task.key, now=1000.0)
        return await self.dispatch(decisions, NOON)

    def sizes(self) -> list[tuple[str, int]]:
        read = [msgspec.json.decode(it.payload, type=RunTasks) for it in self.bus.published]
        return [(it.arm_id, len(it.tasks)) for it in read]

    def flights(self) -> int:
        return self.desk.in_flight()


@pytest.fixture
def stage() -> Stage:
    return Stage(a_desk(facts("one"), facts("two"), slots=24))


class TestSize:
    @pytest.mark.parametrize(
        ("slots", "size"), [(0, 1), (1, 1), (15, 1), (16, 2), (100, 12), (512, 64), (9999, 64)]
    )
    def test_is_a_small_part_of_what_an_instance_runs(self, slots: int, size: int) -> None:
        assert bundle_size(slots) == size

    async def test_what_goes_to_an_only_instance_goes_together(self, stage: Stage) -> None:
        await stage.send(1, 2, 3, 4)
        await stage.send(5, arm_id="two")

        assert stage.sizes() == [("one", 4), ("two", 1)]
        assert stage.flights() == 5

    async def test_two_instances_share_what_goes_to_their_arm(self, stage: Stage) -> None:
        stage.desk.fleet.beat(beat("one", 24, instance="i-2"), now=1000.0)

        await stage.send(1, 2, 3, 4)

        assert stage.sizes() == [("one", 3), ("one", 1)]

    async def test_a_bundle_is_counted_in_slots(self, stage: Stage) -> None:
        stage.desk.fleet.beat(beat("one", 24, instance="i-2"), now=1000.0)
        arm = stage.desk.fleet.pool("one")
        wanted = [2, 1, 4, 1]
        decisions = [
            Placement(waiting(ready(number, slots=slots)), arm, "so", [])
            for number, slots in enumerate(wanted)
        ]

        await stage.dispatch(decisions, NOON)

        assert stage.sizes() == [("one", 2), ("one", 1), ("one", 1)]
        sent = [msgspec.json.decode(it.payload, type=RunTasks) for it in stage.bus.published]
        assert [task.slots for it in sent for task in it.tasks] == wanted

    async def test_the_smallest_instance_decides(self, stage: Stage) -> None:
        stage.desk.fleet.beat(beat("one", 8, instance="i-2"), now=1000.0)

        await stage.send(1, 2)

        assert stage.sizes() == [("one", 1), ("one", 1)]

    async def test_large_tasks_travel_apart(self, stage: Stage) -> None:
        large = msgspec.Raw(b'"%b"' % (b"x" * 300_000))
        arm = stage.desk.fleet.pool("one")
        tasks = [waiting(msgspec.structs.replace(ready(n), task=large)) for n in (1, 2)]

        await stage.dispatch([Placement(task, arm, "so", []) for task in tasks], NOON)

        assert stage.sizes() == [("one", 1), ("one", 1)]

    async def test_the_same_attempts_make_the_same_message_id(self, stage: Stage) -> None:
        await stage.send(1, 2)
        await stage.send(1)
        await stage.send(1, 2)

        first, other, again = [message.msg_id for message in stage.bus.tries]
        assert first == again != other


class TestDoubt:
    async def test_a_bundle_that_nobody_answers_is_sent_again_as_it_was(self, stage: Stage) -> None:
        stage.bus.refused[ONE] = LATE
        assert await stage.send(1, 2) == 0
        assert (stage.dispatch.unsettled, stage.flights()) == (1, 2)

        stage.bus.refused.clear()
        assert await stage.dispatch([], NOON) == 2

        first, again = stage.bus.tries
        assert first == again
        assert stage.dispatch.unsettled == 0

    async def test_a_copy_of_what_had_landed_counts_as_placed(self, stage: Stage) -> None:
        await stage.send(1)

        assert await stage.send(1) == 1

    async def test_the_cycle_goes_on_trying(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(place, "UNSETTLED_WAIT_S", 0.001)
        stage.bus.refused[ONE] = LATE
        await stage.send(1)
        stop = asyncio.Event()
        running = asyncio.create_task(stage.place.run(stop))
        await wait_until(lambda: len(stage.bus.tries) > 2)

        stage.bus.refused.clear()
        await wait_until(lambda: stage.sizes())

        assert stage.sizes() == [("one", 1)]
        stop.set()
        stage.desk.poke()
        await running

    async def test_a_server_that_may_have_forgotten_it_is_not_asked_again(
        self, stage: Stage
    ) -> None:
        stage.bus.refused[ONE] = LATE
        await stage.send(1)

        stage.connection += 1
        await stage.place.run(asyncio.Event())

        assert stage.dispatch.deposed
        assert len(stage.bus.tries) == 1


class TestRefusals:
    async def test_a_fallen_fence_ends_the_leadership(self, stage: Stage) -> None:
        stage.bus.refused[ONE] = Fenced("wrong last sequence")

        assert await stage.send(1) == 0
        await stage.place.run(asyncio.Event())

        assert stage.dispatch.deposed
        assert len(stage.desk.queue) == 0

    async def test_a_refused_bundle_waits_again(self, stage: Stage) -> None:
        stage.bus.refused[ONE] = Backpressure("full", code="QUEUE_FULL")
        stage.desk.queue.call_off(task_id(3), 1)

        await stage.send(1, 2, 3)

        assert [task.task_id for task in stage.desk.queue] == [task_id(1), task_id(2)]
        assert stage.flights() == 0

    async def test_what_no_bus_can_carry_is_dropped(self, stage: Stage) -> None:
        stage.bus.refused[ONE] = PayloadTooLarge("too large")

        await stage.send(1)

        assert (len(stage.desk.queue), stage.flights()) == (0, 0)
