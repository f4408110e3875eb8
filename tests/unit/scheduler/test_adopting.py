"""A new leader counts what earlier ones have placed against limits by key."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from octarm.models.errors import Unavailable
from octarm.models.policies import DecisionRecord, FindDecisions
from octarm.models.subjects import shard_of
from octarm.policies.builtin import DEFAULT
from octarm.policies.queue.limits import LimitRule, Limits
from octarm.scheduler.domain.queue import ShardQueue
from octarm.scheduler.usecases.desk import Desk
from octarm.scheduler.usecases.take_over import AdoptFlights
from tests.support.scheduling import NOON_S, a_desk, beat, facts, ready, task_id, waiting

RULE = LimitRule("one a repository", 'has(task.labels.repo) ? task.labels.repo : ""', concurrency=1)
RED = {"repo": "red"}


@dataclass
class FakeLedger:
    """Knows what is under way, a page for each answer."""

    pages: list[list[DecisionRecord]]
    asked: list[FindDecisions] = field(default_factory=list)
    is_away: bool = False

    async def decisions(self, wanted: FindDecisions) -> tuple[list[bytes], str | None]:
        self.asked.append(wanted)
        if self.is_away:
            raise Unavailable("the ledger is away")
        page, left = self.pages[len(self.asked) - 1], len(self.asked) < len(self.pages)
        return [it.model_dump_json().encode() for it in page], task_id(0) if left else None


def under_way(number: int, arm_id: str | None = "one", **changed: object) -> DecisionRecord:
    given: dict[str, Any] = {"tenant": "default", "tier": "interactive", "labels": RED, **changed}
    return DecisionRecord(
        task_id=task_id(number), attempt=1, priority=5, queued_at=NOON_S, arm_id=arm_id, **given
    )


def a_limited_desk() -> Desk:
    desk = a_desk(facts("one"), slots=4)
    desk.clear(ShardQueue(DEFAULT, desk.fleet.arms, limits=Limits([RULE])))
    return desk


def may_start(desk: Desk, number: int = 50, labels: dict[str, str] = RED) -> bool:
    task = waiting(ready(number, labels=labels))
    desk.queue.add(task, now=NOON_S)
    assert task.lane is not None
    room = all(limit.has_room(NOON_S) for limit in task.lane.limits)
    desk.queue.remove(task)
    return room


async def test_what_is_under_way_counts_until_it_ends() -> None:
    desk = a_limited_desk()
    desk.fleet.beat(beat("one", 4, [(task_id(1), 1)]), now=1000.0)
    free = desk.fleet.pool("one").free

    await AdoptFlights(desk, FakeLedger([[under_way(1)]]), 1)()

    assert not may_start(desk)
    assert may_start(desk, labels={"repo": "blue"})
    assert desk.fleet.pool("one").free == free
    assert desk.fleet.release(task_id(1), 1)
    assert may_start(desk)
    assert desk.fleet.pool("one").free == free + 1


async def test_counting_twice_is_counting_once() -> None:
    desk = a_limited_desk()
    for _ in range(2):
        await AdoptFlights(desk, FakeLedger([[under_way(1)]]), 1)()
    desk.fleet.release(task_id(1), 1)

    assert may_start(desk)
    assert desk.fleet.pool("one").free == 4


async def test_reads_all_pages_and_leaves_out_what_nobody_has() -> None:
    desk = a_limited_desk()
    ledger = FakeLedger([[under_way(1, None)], [under_way(2, labels={"repo": "blue"})]])

    await AdoptFlights(desk, ledger, 1)()

    assert [(it.under_way, it.after) for it in ledger.asked] == [(True, None), (True, task_id(0))]
    assert may_start(desk)
    assert not may_start(desk, labels={"repo": "blue"})


async def test_tasks_of_other_shards_are_theirs() -> None:
    desk = a_limited_desk()
    other = next(n for n in range(100) if shard_of("default", task_id(n), 2) == 1)

    await AdoptFlights(desk, FakeLedger([[under_way(other)]]), 2)()

    assert may_start(desk)


async def test_without_limits_nobody_is_asked() -> None:
    ledger = FakeLedger([[]])

    await AdoptFlights(a_desk(facts("one")), ledger, 1)()

    assert ledger.asked == []


async def test_says_when_the_ledger_is_away() -> None:
    with pytest.raises(Unavailable):
        await AdoptFlights(a_limited_desk(), FakeLedger([], is_away=True), 1)()
