"""What a script sees of instances and of the last minute."""

from typing import cast

import msgspec
import pytest

from octarm.common.testing.fakes import FakeClock
from octarm.models.hot import ResultKey
from octarm.policies.context import InstanceFacts, Observed
from octarm.policies.queue import cycle
from octarm.policies.queue.heard import Heard
from octarm.policies.queue.homes import Homes
from octarm.policies.queue.window import context
from octarm.scheduler.domain.tasks import QueuedTask
from octarm.scheduler.usecases.desk import Desk
from octarm.scheduler.usecases.follow import FreeSlot
from tests.support.scheduling import NOON_S, a_desk, beat, facts, ready, task_id, waiting

NOON_MS = int(NOON_S * 1000)


@pytest.fixture
def desk() -> Desk:
    found = a_desk(facts("one"), slots=3)
    found.seen = True
    return found


def at(desk: Desk, monotonic: float) -> float:
    clock = cast(FakeClock, desk.clock)
    clock.advance(monotonic - clock.monotonic())
    return monotonic


def flying(desk: Desk, number: int) -> None:
    fleet = desk.fleet
    fleet.reserve(fleet.pool("one"), (task_id(number), 1), now=desk.clock.monotonic())


def result(number: int, *, failed: bool = False) -> ResultKey:
    key = ResultKey(task_id(number), 1, "one", "i-1")
    return msgspec.structs.replace(key, error=msgspec.Raw(b'{"code":"X"}')) if failed else key


def heard(desk: Desk) -> Heard:
    now = desk.clock.monotonic()
    return desk.recent.heard(desk.fleet, {}, now=now, now_s=desk.now_s())


def test_an_instance_that_has_done_nothing_was_never_used(desk: Desk) -> None:
    desk.fleet.learn(facts("without-instances"), at_s=NOON_S)
    at(desk, desk.clock.monotonic() + 4.0)

    found = heard(desk)

    assert found.instances == {"one": (InstanceFacts("i-1", "ready", 3),)}
    assert found.beat_age_ms == {"one": 4000}
    assert (found.placed, found.completed, found.failed) == (0, 0, 0)


def test_beats_and_results_say_when_an_instance_was_used_and_how_often(desk: Desk) -> None:
    began = desk.clock.monotonic()
    desk.fleet.beat(beat("one", 3, [(task_id(1), 1)], interval_s=60), now=at(desk, began + 1))
    desk.fleet.beat(beat("one", 3, [(task_id(1), 1)], interval_s=60), now=at(desk, began + 2))
    flying(desk, 2)
    flying(desk, 3)
    at(desk, began + 3)

    FreeSlot(desk)(result(1))
    FreeSlot(desk)(result(2, failed=True))
    FreeSlot(desk)(result(3))
    FreeSlot(desk)(result(3))

    (instance,) = heard(desk).instances["one"]
    assert (instance.running, instance.runs) == (1, 3)
    assert instance.last_used_at == pytest.approx(NOON_MS + 3000, abs=1)
    found = heard(desk)
    assert (found.completed, found.failed) == (2, 1)


def test_what_happened_counts_for_a_minute(desk: Desk) -> None:
    began = desk.clock.monotonic()
    for number in (1, 2):
        flying(desk, number)
        at(desk, began + 30 * number)
        FreeSlot(desk)(result(number))
    desk.recent.placed.add(7, now=began + 60)

    counts = []
    for after_s in (60, 89, 90, 120):
        at(desk, began + after_s)
        counts.append((heard(desk).completed, heard(desk).placed))

    assert counts == [(2, 7), (2, 7), (1, 7), (0, 0)]


def test_results_are_not_looked_into_while_no_script_sees_them(desk: Desk) -> None:
    desk.seen = False
    flying(desk, 1)

    FreeSlot(desk)(result(1))

    assert heard(desk).completed == 0


def test_a_result_of_an_instance_that_is_not_known_counts_for_the_fleet(desk: Desk) -> None:
    flying(desk, 1)

    FreeSlot(desk)(msgspec.structs.replace(result(1), instance_id="gone"))

    assert heard(desk).completed == 1
    assert heard(desk).instances["one"][0].runs == 0


def test_what_a_task_took_is_thought_of_those_that_need_the_same(desk: Desk) -> None:
    for number in (1, 2, 3):
        desk.queue.add(waiting(ready(number)), now=NOON_S)
    for it in cycle.place(desk.queue, Homes(), now=NOON_S, window=2):
        assert isinstance(it.task, QueuedTask)
        desk.fleet.placed(it.arm.facts.id, it.task, now=0.0)

    FreeSlot(desk)(msgspec.structs.replace(result(1), execution_time_ms=300, cost_dollars=0.000_04))
    FreeSlot(desk)(result(2, failed=True))
    shown = context(desk.queue, list(desk.queue), now=NOON_S, heard=heard(desk))

    assert [(task.est_ms, task.est_cost) for task in shown.queue] == [(300, 40)]
    assert shown.arms[0].observed == {"work": Observed(300, 40, 0.5, 2)}
