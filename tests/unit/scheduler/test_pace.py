"""How fast a shard places, and when a task may expect its turn."""

import pytest

from octarm.models.queries import WhyWaiting
from octarm.policies.builtin import DEFAULT
from octarm.policies.queue.homes import Homes
from octarm.policies.queue.limits import LimitRule, Limits
from octarm.policies.queue.pace import Pace
from octarm.scheduler.domain.cycle import place
from octarm.scheduler.domain.queue import ShardQueue
from octarm.scheduler.usecases.answer import ExplainWait
from tests.support.scheduling import NOON_S, a_desk, facts, ready, task_id, waiting


def test_a_steady_pace_is_seen_at_once_and_forgotten_after_a_while() -> None:
    pace = Pace()
    assert pace.per_s(0.0) == 0.0

    for second in range(120):
        pace.add(10, now=float(second))

    assert pace.per_s(120.0) == pytest.approx(10, rel=0.05)
    assert pace.per_s(400.0) < 0.01


async def test_a_task_is_told_when_its_turn_may_come() -> None:
    desk = a_desk(facts("one"))
    desk.fleet.reserve(desk.fleet.pool("one"), ("x", 1), now=1000.0)
    for number in (1, 2):
        desk.queue.add(waiting(ready(number)), now=NOON_S)
    desk.queue.add(waiting(ready(3, needs=["absent"])), now=NOON_S)
    desk.pace.add(1, now=desk.clock.monotonic())
    explain = ExplainWait(desk)

    answers = [await explain(WhyWaiting(task_id=task_id(number))) for number in (1, 2, 3, 4)]

    assert [it.starts_in_s for it in answers] == [pytest.approx(1, 0.1), pytest.approx(2, 0.1)] + [
        None
    ] * 2
    assert answers[0].policy == "priority"


async def test_a_task_within_a_rate_is_told_when_that_lets_it_start() -> None:
    rules = [LimitRule("starts", "task.tenant", rate_per_s=0.1)]
    desk = a_desk(facts("one"), slots=9)
    desk.clear(ShardQueue(DEFAULT, desk.fleet.arms, limits=Limits(rules)))
    for number in (1, 2):
        desk.queue.add(waiting(ready(number)), now=NOON_S)
    place(desk.queue, desk.fleet, Homes(), now=NOON_S, monotonic=1000.0)

    answer = await ExplainWait(desk)(WhyWaiting(task_id=task_id(2)))

    assert (answer.reason, answer.starts_in_s) == ("limit starts of default: 0.1 a second", 10)
