"""A full queue: what makes room for what, and who is told."""

import pytest

from octarm.common.bus.delivery import HELD
from octarm.common.bus.publisher import Fence
from octarm.common.testing.fakes import RecordingPublisher
from octarm.models.contracts import Tier
from octarm.models.errors import InvalidRequest, Unavailable
from octarm.models.hot import ReadyTask
from octarm.policies.builtin import DEFAULT
from octarm.policies.queue.queue import FullPolicy, Rules
from octarm.scheduler.domain.queue import ShardQueue
from octarm.scheduler.domain.tasks import QueuedTask
from octarm.scheduler.usecases import desk as desks
from octarm.scheduler.usecases import reject
from octarm.scheduler.usecases.admit import AdmitTasks
from octarm.scheduler.usecases.desk import Desk
from octarm.scheduler.usecases.dispatch import Dispatch
from tests.support.scheduling import (
    FakeDelivery,
    NoLedger,
    a_desk,
    a_placer,
    an_empty_queue,
    facts,
    ready,
    task_id,
)
from tests.support.wait import wait_until

CAPACITY = 64


class Stage:
    """A shard that has room for 64 tasks, and no arm."""

    def __init__(self, full: FullPolicy) -> None:
        self.desk = a_desk(capacity=CAPACITY)
        rules = Rules(capacity=CAPACITY, full=full)
        self.desk.clear(ShardQueue(DEFAULT, self.desk.fleet.arms, rules=rules))
        self.ledger = NoLedger()
        dispatch = Dispatch(self.desk, RecordingPublisher(), Fence("x", 1))
        self.placer = a_placer(self.desk, dispatch, ledger=self.ledger)
        self.seq = 0

    async def read(self, *tasks: ReadyTask) -> FakeDelivery:
        """Let a message come; what is dropped for it is on its way to the ledger after that."""
        self.seq += 1
        delivery = FakeDelivery(*tasks, seq=self.seq)
        assert await AdmitTasks(self.desk)([delivery]) == [HELD]
        await self.placer.cycle()
        return delivery

    async def fill(self, tier: Tier, count: int = CAPACITY) -> FakeDelivery:
        """Let so many tasks wait, numbered from 1, the later ones less urgent."""
        return await self.read(*[ready(number + 1, tier=tier) for number in range(count)])

    async def told(self, count: int) -> list[str]:
        """Give who has been rejected, once there are so many."""
        await wait_until(lambda: len(self.ledger.rejected) == count and not self.desk.ending)
        return [it.task_id for it in self.ledger.rejected]

    def waits(self, number: int) -> bool:
        return self.desk.queue.get(task_id(number)) is not None


async def test_drop_lru_ends_the_batch_task_that_was_queued_first() -> None:
    stage = Stage("drop_lru")
    first = await stage.read(ready(1, tier="batch"))
    await stage.read(*[ready(number, tier="batch") for number in range(2, 65)])

    await stage.read(ready(99, tier="batch"))

    assert await stage.told(1) == [task_id(1)]
    told = stage.ledger.rejected[0]
    assert (told.attempt, told.code) == (1, "QUEUE_FULL")
    assert told.reason.startswith("64 tasks wait, as many as may")
    assert first.acked == 1
    assert len(stage.desk.queue) == CAPACITY
    assert stage.waits(99)


async def test_a_message_is_settled_when_the_last_of_its_tasks_has_gone() -> None:
    stage = Stage("drop_lru")
    old = await stage.fill("batch")

    await stage.read(*[ready(number) for number in range(101, 164)])
    await stage.told(63)
    assert old.acked == 0

    await stage.read(ready(200))
    await stage.told(64)
    assert old.acked == 1


async def test_shed_batch_ends_batch_tasks_that_come() -> None:
    stage = Stage("shed_batch")
    await stage.fill("batch")

    refused = await stage.read(ready(99, tier="batch"))

    assert await stage.told(1) == [task_id(99)]
    assert refused.acked == 1
    assert len(stage.desk.queue) == CAPACITY


async def test_shed_batch_ends_the_least_urgent_for_an_interactive_one() -> None:
    stage = Stage("shed_batch")
    await stage.read(*[ready(n, tier="batch", priority=9 if n == 7 else 5) for n in range(1, 65)])

    await stage.read(ready(99))

    assert await stage.told(1) == [task_id(7)]
    assert stage.waits(99)


@pytest.mark.parametrize("policy", ["reject", "drop_lru", "shed_batch"])
async def test_no_interactive_task_is_ever_dropped(policy: FullPolicy) -> None:
    stage = Stage(policy)
    await stage.fill("interactive")

    assert (stage.desk.room(), stage.desk.full) == (0, True)
    await stage.read(ready(99))

    assert len(stage.desk.queue) == CAPACITY + 1
    assert not stage.desk.dropped
    assert not stage.desk.ending
    assert stage.desk.room() == 0


async def test_reject_reads_no_more_whatever_waits() -> None:
    stage = Stage("reject")
    await stage.fill("batch")

    assert (stage.desk.room(), stage.desk.full) == (0, True)
    assert not stage.desk.ending


async def test_reads_no_more_than_there_is_batch_work_to_drop() -> None:
    stage = Stage("drop_lru")
    await stage.fill("batch")
    assert (stage.desk.room(), stage.desk.full) == (1, False)

    await stage.read(ready(99))

    assert (stage.desk.room(), stage.desk.full) == (0, True)


class TestLedgerAway:
    @pytest.fixture
    def stage(self, monkeypatch: pytest.MonkeyPatch) -> Stage:
        monkeypatch.setattr(reject, "AGAIN_AFTER_S", 0.01)
        stage = Stage("drop_lru")
        stage.ledger.failure = Unavailable("gone")
        return stage

    async def test_is_told_until_it_has_heard_and_then_more_is_read(self, stage: Stage) -> None:
        asked: list[int] = []
        stage.desk.more_room = lambda: asked.append(1)
        await stage.fill("batch")
        await stage.read(ready(99))
        await wait_until(lambda: stage.ledger.requests > 1)
        assert stage.desk.room() == 0
        assert not asked

        stage.ledger.failure = None

        assert await stage.told(1) == [task_id(1)]
        assert asked == [1]

    async def test_reads_no_more_when_too_many_are_not_told(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(desks, "MAX_ENDING", CAPACITY)
        await stage.fill("batch")
        assert stage.desk.room() == 1

        await stage.read(ready(99, tier="batch"))
        assert stage.desk.room() == 0

        stage.ledger.failure = None
        await stage.told(1)
        assert stage.desk.room() == 1

    async def test_a_copy_of_what_is_being_ended_is_settled(self, stage: Stage) -> None:
        await stage.fill("batch")
        await stage.read(ready(99))

        copy = await stage.read(ready(1, tier="batch"))

        assert copy.acked == 1
        assert not stage.waits(1)
        stage.ledger.failure = None
        assert await stage.told(1) == [task_id(1)]

    @pytest.mark.parametrize("by", ["its end", "a later attempt"])
    async def test_what_has_gone_by_itself_is_let_go(self, stage: Stage, by: str) -> None:
        await stage.fill("batch")
        await stage.read(ready(99))
        if by == "its end":
            stage.desk.queue.call_off(task_id(1), 1)
        else:
            stage.desk.queue.remove(_waiting(stage.desk, 5))
            await stage.read(ready(1, attempt=2, tier="batch"))

        await wait_until(lambda: not stage.desk.ending)

        assert stage.ledger.rejected == []

    async def test_what_it_will_never_take_waits_again(self, stage: Stage) -> None:
        stage.ledger.failure = InvalidRequest("what is this?")
        await stage.fill("batch")

        await stage.read(ready(99))
        await wait_until(lambda: not stage.desk.ending)

        assert stage.waits(1)
        assert len(stage.desk.queue) == CAPACITY + 1
        assert stage.desk.room() == 0

    async def test_who_leads_no_more_forgets_them(self, stage: Stage) -> None:
        await stage.fill("batch")
        old = await stage.read(ready(99))
        desk = stage.desk

        await stage.placer._reject.aclose()
        desk.clear(an_empty_queue(desk.fleet))

        assert (desk.dropped, desk.ending, old.acked) == ([], set(), 0)
        assert desk.room() == 1


async def test_a_lost_flight_that_waits_again_may_make_room_too() -> None:
    stage = Stage("drop_lru")
    stage.desk.arm_learned(facts("one"))
    await stage.fill("batch")
    again = _waiting(stage.desk, 64)
    stage.desk.queue.remove(again)
    await stage.read(ready(99))

    stage.desk.admit(again.ready, again.hold, seen_ns=0, now=stage.desk.now_s())
    await stage.placer.cycle()

    assert await stage.told(1) == [task_id(1)]
    assert stage.waits(64)


def _waiting(desk: Desk, number: int) -> QueuedTask:
    task = desk.queue.get(task_id(number))
    assert task is not None
    return task
