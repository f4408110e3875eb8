"""A new leader shuts out its predecessors and waits until the ledger knows what they did."""

import asyncio
from typing import cast

import pytest

from octarm.common.bus.publisher import Fence, Unacknowledged
from octarm.common.testing.fakes import FakeClock, RecordingPublisher
from octarm.models.errors import Backpressure, OctarmError, Unavailable
from octarm.models.subjects import LEAD_SHARD
from octarm.scheduler.usecases import take_over
from octarm.scheduler.usecases.desk import Desk
from octarm.scheduler.usecases.ports import Pending
from octarm.scheduler.usecases.take_over import TakeOver
from tests.support.scheduling import FakeDispatched, a_desk, beat, facts, task_id
from tests.support.wait import wait_until

SUBJECT = LEAD_SHARD.at(shard=0)


class Stage:
    def __init__(self, dispatched: FakeDispatched) -> None:
        self.desk: Desk = a_desk(facts("one"), slots=3)
        self.bus, self.dispatched, self.lost = RecordingPublisher(), dispatched, asyncio.Event()
        self.take_over = TakeOver(self.desk, dispatched, self.bus, "scheduler-1")

    async def __call__(self) -> Fence | None:
        return await self.take_over(self.lost)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(take_over, "LOOK_AGAIN_S", 0.001)
    monkeypatch.setattr(take_over, "LOOK_AT_MOST_S", 0.002)


async def test_what_runs_or_waits_in_dispatch_is_in_flight() -> None:
    stage = Stage(FakeDispatched({"one": [Pending(task_id(2), 1, 17)]}))
    fleet = stage.desk.fleet
    fleet.reserve(fleet.pool("one"), (task_id(9), 1), now=1000.0)
    fleet.beat(beat("one", 3, [(task_id(1), 1)]), now=1000.0)
    fleet.beat(beat("unregistered", 3), now=1000.0)

    assert await stage() == Fence(SUBJECT, 1)

    flight = fleet.flight(task_id(2), 1)
    assert flight is not None
    assert (flight.dispatch_seq, stage.desk.in_flight()) == (17, 2)
    assert stage.dispatched.forgotten == [0]


async def test_waits_until_the_ledger_has_read_up_to_the_fence() -> None:
    stage = Stage(FakeDispatched(known=0))
    taking = asyncio.create_task(stage())
    await asyncio.sleep(0.01)
    waited = not taking.done()
    cast(FakeClock, stage.desk.clock).advance(take_over.SAID_AFTER_S + 1)
    await asyncio.sleep(0.01)

    stage.dispatched.known = 1

    assert waited
    assert await taking is not None


async def test_what_was_removed_is_not_awaited_for_ever() -> None:
    stage = Stage(FakeDispatched(known=0, is_idle=True))

    assert await stage() is not None


async def test_gives_up_when_the_lease_is_lost() -> None:
    stage = Stage(FakeDispatched(known=0))
    taking = asyncio.create_task(stage())
    await wait_until(lambda: stage.bus.published)

    stage.lost.set()

    assert await taking is None
    assert stage.dispatched.forgotten == []


async def test_does_not_shut_out_the_one_that_came_after_it() -> None:
    stage = Stage(FakeDispatched())
    stage.desk.may_place = lambda: False

    assert await stage() is None
    assert stage.bus.published == []


async def test_publishes_its_fence_until_somebody_answers() -> None:
    stage = Stage(FakeDispatched())
    stage.bus.refused[SUBJECT] = Unacknowledged("late")
    asked: list[bool] = []

    def holds() -> bool:
        asked.append(True)
        if len(asked) == 3:
            stage.bus.refused.clear()
        return True

    stage.desk.may_place = holds

    assert await stage() == Fence(SUBJECT, 1)
    assert len(asked) == 3


@pytest.mark.parametrize("failure", [Backpressure("full"), Unavailable("gone")])
async def test_says_what_stands_in_its_way(failure: OctarmError) -> None:
    stage = Stage(FakeDispatched(failure=failure if isinstance(failure, Unavailable) else None))
    if isinstance(failure, Backpressure):
        stage.bus.refused[SUBJECT] = failure

    with pytest.raises(type(failure)):
        await stage()
