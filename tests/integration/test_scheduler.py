"""The scheduler on a real nats-server, as a process of this event loop."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from octarm.clients.scheduler import SchedulerClient
from octarm.common.bus.publisher import Fence, Fenced, Outgoing
from octarm.common.bus.topology import provision
from octarm.models.errors import OctarmError
from octarm.models.queries import StatesFound
from octarm.models.subjects import (
    DISPATCH,
    LEAD_SHARD,
    PLACE_TASKS,
    READY,
)
from octarm.scheduler.domain.queue import OVERDUE_AFTER_S
from tests.support.scheduler_stage import (
    Bus,
    a_bus,
    a_command,
    a_scheduler,
    a_standby,
    leads,
    queued,
)
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture
async def bus(nats_url: str) -> AsyncGenerator[Bus, None]:
    async with a_bus(nats_url) as provisioned:
        yield provisioned


class TestPlacing:
    async def test_places_the_most_urgent_tasks_first(self, bus: Bus) -> None:
        batch: dict[str, object] = {"tier": "batch", "priority": 1}
        ids = await bus.ready({"priority": 7}, {"priority": 1}, {"priority": 5}, batch)

        async with a_scheduler(bus):
            await wait_until(lambda: is_queued(bus, 4))
            await bus.arm("one", slots=4)
            placed = await bus.placed(4)

        assert placed == [ids[1], ids[2], ids[0], ids[3]]
        assert [it.task_id for it in await bus.dispatched("one")] == placed
        await wait_until(lambda: is_empty(bus, READY))

    async def test_a_full_arm_waits_and_a_result_frees_its_slot(self, bus: Bus) -> None:
        async with a_scheduler(bus):
            await bus.arm("one", slots=1)
            first, second = await bus.ready({"priority": 1}, {})
            assert await bus.placed(1) == [first]
            why = await SchedulerClient(bus.nc).why_waiting(second)

            began = asyncio.get_running_loop().time()
            await bus.result(first, "one")
            assert await bus.placed(2) == [first, second]

        assert asyncio.get_running_loop().time() - began < 4
        assert (why.position, why.reason) == (0, "every capable arm is full")
        assert why.arms == {"one": "one is full: 0 of 1 slots free, 1 wanted"}

    async def test_a_pinned_task_waits_for_its_arm(self, bus: Bus) -> None:
        async with a_scheduler(bus):
            await bus.arm("one")
            pinned, free = await bus.ready({"assigned_arm": "two"}, {})
            assert await bus.placed(1) == [free]
            why = await SchedulerClient(bus.nc).why_waiting(pinned)
            await bus.arm("two")
            assert await bus.placed(2) == [free, pinned]

        assert why.reason == "pinned to two: not registered"
        assert bus.seen.placements()[1] == (pinned, "two")

    async def test_a_cancelled_task_is_dropped_and_its_message_settled(self, bus: Bus) -> None:
        async with a_scheduler(bus):
            (task_id,) = await bus.ready({})
            await wait_until(lambda: is_queued(bus, 1))
            await bus.ended(task_id, "cancelled")
            await wait_until(lambda: is_queued(bus, 0))
            await wait_until(lambda: is_empty(bus, READY))
            await bus.arm("one")
            (other,) = await bus.ready({})
            assert await bus.placed(1) == [other]

    @pytest.mark.bad_input(26)
    async def test_what_does_not_parse_is_dead(self, bus: Bus) -> None:
        async with a_scheduler(bus):
            await bus.publisher.publish(Outgoing(PLACE_TASKS.at(shard=0), b"{", "broken"))
            await wait_until(lambda: is_empty(bus, READY))

        assert await bus.messages("OCTARM_DLQ") == 1


class TestRecovery:
    async def test_a_restart_reads_the_queue_again_and_places_nothing_twice(self, bus: Bus) -> None:
        async with a_scheduler(bus):
            await bus.arm("one", slots=2)
            ids = await bus.ready({"priority": 1}, {"priority": 1}, {}, {})
            await bus.placed(2)

        async with a_scheduler(bus, "second"):
            await bus.beat("one", slots=4)
            placed = await bus.placed(4)
            await wait_until(lambda: is_empty(bus, READY))

        assert sorted(placed) == sorted(ids)
        assert sorted(it.task_id for it in await bus.dispatched("one")) == sorted(ids)

    async def test_a_standby_takes_over_when_the_leader_is_killed(self, bus: Bus) -> None:
        leader = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "octarm.scheduler"],
            env={**os.environ, "OCTARM_NATS_URL": bus.url, "OCTARM_INSTANCE": "first"},
        )
        try:
            await wait_until(lambda: leads(bus, "first"), timeout_s=40)
            await bus.arm("one")
            (before,) = await bus.ready({})
            await bus.placed(1)
            async with a_standby(bus, "second"):
                leader.kill()
                (after,) = await bus.ready({})
                await wait_until(lambda: leads(bus, "second"), timeout_s=40)
                await bus.beat("one", slots=4)
                await bus.placed(2)
        finally:
            if leader.returncode is None:
                with suppress(ProcessLookupError):
                    leader.kill()
            await leader.wait()

        assert bus.ids() == [before, after]
        assert await bus.run_commands() == 2

    async def test_a_crash_between_dispatch_and_ack_dispatches_once(self, bus: Bus) -> None:
        await bus.arm("one", slots=0)
        await bus.arm("two", slots=0)
        (task_id,) = await bus.ready({})
        await bus.publisher.publish(a_command(task_id, "two", "d:1"))

        async with a_scheduler(bus):
            await bus.beat("one", slots=4)
            await wait_until(lambda: is_empty(bus, READY))

        assert bus.seen.placements() == [(task_id, "two")]
        assert await bus.run_commands() == 1

    async def test_what_an_earlier_leader_sends_late_is_refused(self, bus: Bus) -> None:
        leads = LEAD_SHARD.at(shard=0)
        old = await bus.publisher.publish(Outgoing(leads, b"{}", "old"))
        (task_id,) = await bus.ready({})
        late = a_command(task_id, "one", "d:late", Fence(leads, old.seq))

        async with a_scheduler(bus):
            with pytest.raises(Fenced):
                await bus.publisher.publish(late)
            await bus.arm("one")
            await bus.placed(1)

        assert await bus.run_commands() == 1

    async def test_a_leader_that_is_shut_out_leads_anew(self, bus: Bus) -> None:
        async with a_scheduler(bus):
            await bus.arm("one")
            await bus.publisher.publish(Outgoing(LEAD_SHARD.at(shard=0), b"{}", "another"))
            (first,) = await bus.ready({})
            assert await bus.placed(1) == [first]
            (second,) = await bus.ready({})
            assert await bus.placed(2) == [first, second]

        assert await bus.messages(DISPATCH) == 3

    async def test_waits_with_what_is_old_until_the_ledger_answers(
        self, bus: Bus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def nobody(_: object) -> StatesFound:
            raise RuntimeError("the ledger is away")

        (old,) = await bus.ready({})
        with monkeypatch.context() as patched:
            patched.setattr("octarm.scheduler.leader.ASK_S", 0.1)
            patched.setattr(bus.seen, "states", nobody)
            async with a_scheduler(bus):
                await bus.arm("one")
                (fresh,) = await bus.ready({})
                assert await bus.placed(1) == [fresh]
                patched.undo()
                assert await bus.placed(2) == [fresh, old]

    async def test_a_slot_that_nobody_reports_is_freed_by_the_next_beat(self, bus: Bus) -> None:
        async with a_scheduler(bus):
            await bus.arm("one", slots=1)
            first, second = await bus.ready({"priority": 1}, {})
            await bus.placed(1)
            await bus.beat("one", slots=1, running=[(first, 1)])
            await bus.beat("one", slots=1)
            assert await bus.placed(2) == [first, second]

    async def test_a_task_that_is_long_overdue_is_dropped(self, bus: Bus) -> None:
        async with a_scheduler(bus):
            long_ago = datetime.now(UTC) - timedelta(seconds=OVERDUE_AFTER_S - 0.5)
            await bus.ready({"deadline": long_ago})
            await wait_until(lambda: is_queued(bus, 1))
            await wait_until(lambda: is_queued(bus, 0))
            await wait_until(lambda: is_empty(bus, READY))


class TestTwoShards:
    async def test_share_an_arm_in_turns_without_filling_it_twice(self, bus: Bus) -> None:
        slots, each = 2, 12
        await provision(bus.nc.jetstream(), shards=2)
        async with a_standby(bus, "first", shards=2), a_standby(bus, "second", shards=2):
            await wait_until(lambda: both_led(bus), timeout_s=15)
            await bus.arm("one", slots=slots)
            first = await bus.ready(*[{} for _ in range(slots)])
            await bus.placed(slots)
            others = [await bus.ready(*[{} for _ in range(each)], shard=n) for n in range(2)]
            await wait_until(lambda: waiting_everywhere(bus, 2 * each))

            most, served = 0, []
            for done in range(slots + 2 * each):
                task_id = (await bus.placed(done + 1))[done]
                served.append(next((n for n in range(2) if task_id in others[n]), -1))
                await bus.result(task_id, "one")
                await asyncio.sleep(0.06)
                most = max(most, len(bus.ids()) - done - 1)

        # A leader that looks at the very moment of another may take the same slot, once.
        assert most <= slots + 1
        assert sorted(bus.ids()) == sorted([*first, *others[0], *others[1]])
        assert set(served[slots:][: 2 * each - 2]) == {0, 1}


async def both_led(bus: Bus) -> bool:
    try:
        for shard in range(2):
            await SchedulerClient(bus.nc, timeout_s=0.5).queue(shard)
    except OctarmError:
        return False
    return True


async def waiting_everywhere(bus: Bus, count: int) -> bool:
    client = SchedulerClient(bus.nc)
    return sum([(await client.queue(shard)).queued for shard in range(2)]) == count


async def is_queued(bus: Bus, count: int) -> bool:
    return await queued(bus) == count


async def is_empty(bus: Bus, stream: str) -> bool:
    return await bus.messages(stream) == 0
