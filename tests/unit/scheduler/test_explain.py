"""Why tasks wait, in words and counts."""

from octarm.scheduler.domain.explain import summary, why_waiting
from tests.support.scheduling import (
    NOON_S,
    a_fleet,
    a_queue,
    an_empty_fleet,
    an_empty_queue,
    beat,
    facts,
    ready,
    task_id,
)


def test_names_what_keeps_each_arm_out() -> None:
    fleet = a_fleet(facts("two"), facts("one"))
    fleet.beat(beat("one", 0), now=1000.0)
    fleet.beat(beat("stranger", 1), now=1000.0)

    wait = why_waiting(a_queue(ready(arm="one"), fleet=fleet), task_id(1), now=NOON_S)

    assert wait.reason == "pinned to one: no capable arm has a live instance that takes work"
    assert wait.arms == {
        "one": "one has no live instance that takes work",
        "two": "the task is pinned to one",
    }


def test_tells_a_pause_from_room() -> None:
    fleet = a_fleet(facts("one"))
    queue = a_queue(ready(), fleet=fleet)

    room = why_waiting(queue, task_id(1), now=NOON_S)
    fleet.pause(fleet.pool("one"), until=2000.0)
    paused = why_waiting(queue, task_id(1), now=NOON_S)

    assert (room.reason, room.arms) == ("about to be placed", {"one": "has room"})
    assert paused.arms == {"one": "one is paused for a moment"}


def test_names_the_slots_that_no_instance_has() -> None:
    fleet = a_fleet(facts("one"), slots=2)
    fleet.beat(beat("one", 2, instance="i-2"), now=1000.0)

    wait = why_waiting(a_queue(ready(slots=4), fleet=fleet), task_id(1), now=NOON_S)

    assert wait.reason == "it needs 4 slots, the largest capable arm has 2 in one instance"
    assert wait.arms == {"one": "one has 2 slots at most, 4 wanted"}


def test_counts_the_tasks_before_it() -> None:
    queue = a_queue(ready(1, priority=9), ready(2), ready(3, tier="batch"))

    positions = [why_waiting(queue, task_id(n), now=NOON_S).position for n in (1, 2, 3)]

    assert positions == [1, 0, 2]


def test_does_not_know_what_does_not_wait() -> None:
    assert why_waiting(an_empty_queue(), task_id(1), now=NOON_S).position is None


class TestSummary:
    def test_counts_by_tier_tenant_and_reason(self) -> None:
        fleet = a_fleet(facts("one"))
        fleet.reserve(fleet.pool("one"), ("x", 1), now=1000.0)
        queue = a_queue(ready(1), ready(2, tier="batch"), ready(3, arm="two"), fleet=fleet)

        found = summary(queue, fleet, now=NOON_S + 7)

        assert found.by_tier == {"interactive": 2, "batch": 1}
        assert found.by_tenant == {"default": 3}
        assert found.blocked == {"every capable arm is full": 2, "pinned to two: not registered": 1}
        assert found.oldest_wait_s == 7
        assert found.in_flight == {"one": 1}

    def test_of_nothing_is_nothing(self) -> None:
        found = summary(an_empty_queue(), an_empty_fleet(), now=NOON_S)

        assert (found.by_tier, found.oldest_wait_s) == ({}, 0.0)
