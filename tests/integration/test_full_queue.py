"""A full queue on a real nats-server: batch work makes room, and its submitters are told."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from nats.aio.msg import Msg

from octarm.common.bus.requests import ok, problem
from octarm.models.errors import Unavailable
from octarm.models.rejections import Rejection, RejectTasks, TasksRejected
from octarm.models.subjects import READY, REJECT_TASKS
from tests.support.scheduler_stage import Bus, a_bus, a_scheduler, queued
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration

CAPACITY = 64


@dataclass
class Ledger:
    """Is away for the first request, and ends what later ones ask for."""

    bus: Bus
    requests: int = 0
    rejected: list[Rejection] = field(default_factory=list)

    async def answer(self, msg: Msg) -> None:
        self.requests += 1
        if self.requests == 1:
            await msg.respond(problem(Unavailable("the ledger is away")))
            return
        tasks = RejectTasks.model_validate_json(msg.data).tasks
        for task in tasks:
            await self.bus.ended(task.task_id, "rejected")
        await self.bus.nc.flush()
        self.rejected += tasks
        ended = TasksRejected(task_ids=[it.task_id for it in tasks])
        await msg.respond(ok(ended.model_dump_json().encode()))


@asynccontextmanager
async def a_ledger(bus: Bus) -> AsyncGenerator[Ledger, None]:
    ledger = Ledger(bus)
    answering = await bus.nc.subscribe(REJECT_TASKS.at(), cb=ledger.answer)
    await bus.nc.flush()
    yield ledger
    await answering.unsubscribe()


def some(count: int, tier: str) -> list[dict[str, object]]:
    """So many tasks, each queued a little after the one before."""
    now = datetime.now(UTC)
    return [
        {"tier": tier, "queued_at": now + timedelta(milliseconds=number)} for number in range(count)
    ]


async def test_the_oldest_batch_tasks_make_room_and_nothing_else_is_lost(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCTARM_QUEUE_CAPACITY", str(CAPACITY))
    monkeypatch.setenv("OCTARM_FULL_POLICY", "drop_lru")
    async with a_bus(nats_url) as bus, a_ledger(bus) as ledger, a_scheduler(bus):
        batch = await bus.ready(*some(CAPACITY, "batch"))
        await wait_until(lambda: is_queued(bus, CAPACITY), timeout_s=20)
        urgent = await bus.ready(*some(8, "interactive"))
        await wait_until(lambda: len(ledger.rejected) == 8, timeout_s=20)
        again = batch[1]
        later = await bus.ready({}, {"task_id": again, "tier": "batch"}, {})
        await bus.arm("one", slots=200)

        placed = await placed_in_all(bus, {*batch[8:], *urgent, later[0], later[2]})
        await wait_until(lambda: is_empty(bus), timeout_s=20)

    assert {it.task_id for it in ledger.rejected} == set(batch[:8])
    assert {it.code for it in ledger.rejected} == {"QUEUE_FULL"}
    assert len(placed) == len(set(placed))
    assert not set(placed) & set(batch[:8])


async def placed_in_all(bus: Bus, wanted: set[str]) -> list[str]:
    await wait_until(lambda: wanted <= set(bus.ids()), timeout_s=20)
    return bus.ids()


async def is_queued(bus: Bus, count: int) -> bool:
    return await queued(bus) == count


async def is_empty(bus: Bus) -> bool:
    return await bus.messages(READY) == 0
