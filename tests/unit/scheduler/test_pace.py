"""How fast a shard places, and when a task may expect its turn."""

import pytest

from octarm.models.queries import WhyWaiting
from octarm.scheduler.domain.pace import Pace
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
