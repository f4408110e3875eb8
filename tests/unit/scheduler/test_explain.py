"""Why tasks wait, in words."""

from dataclasses import replace

import pytest

from octarm.scheduler.domain.explain import PLACEABLE, summary, why_waiting
from octarm.scheduler.domain.fleet import Fleet
from tests.support.scheduling import (
    NOON_S,
    a_fleet,
    a_queue,
    an_empty_queue,
    beat,
    facts,
    ready,
    task_id,
)

SILENT = "every capable arm is offline, draining or silent"


def stranger_fleet() -> Fleet:
    fleet = Fleet()
    fleet.beat(beat("two"), now=1000.0)
    return fleet


def full_fleet() -> Fleet:
    fleet = a_fleet(facts("one"))
    fleet.reserve(fleet.arm("one"), ("x", 1), now=1000.0)
    return fleet


def paused_fleet() -> Fleet:
    fleet = a_fleet(facts("one"))
    fleet.pause(fleet.arm("one"), until=2000.0)
    return fleet


class TestWhyWaiting:
    @pytest.mark.parametrize(
        ("fleet", "arm", "reason"),
        [
            (Fleet(), None, "no arm is registered"),
            (a_fleet(facts("one", tags=["x"])), None, "no arm has work"),
            (full_fleet(), None, "every capable arm is full"),
            (a_fleet(facts("one", status="offline")), None, SILENT),
            (a_fleet(facts("one")), None, PLACEABLE),
            (Fleet(), "two", "pinned to two: not registered"),
            (stranger_fleet(), "two", "pinned to two: not registered"),
            (a_fleet(facts("two", tags=["x"])), "two", "pinned to two: lacks work"),
            (a_fleet(facts("two", status="draining")), "two", "pinned to two: draining"),
            (a_fleet(facts("two")), "two", PLACEABLE),
        ],
    )  # fmt: skip
    def test_names_what_blocks_it(self, fleet: Fleet, arm: str | None, reason: str) -> None:
        wait = why_waiting(a_queue(ready(arm=arm)), fleet, task_id(1))

        assert wait.reason == reason

    def test_names_what_keeps_each_arm_out(self) -> None:
        fleet = a_fleet(facts("two"), facts("one"))
        fleet.beat(beat("one", 0), now=1000.0)
        fleet.beat(beat("stranger", 1), now=1000.0)

        wait = why_waiting(a_queue(ready(arm="one")), fleet, task_id(1))

        assert wait.arms == {
            "one": "no live instance that takes work",
            "two": "the task is pinned to one",
        }

    def test_says_that_a_task_which_names_nothing_must_name_something(self) -> None:
        fleet = a_fleet(replace(facts("shy"), takes_any=False))

        wait = why_waiting(a_queue(ready(needs=())), fleet, task_id(1))

        assert wait.reason.startswith("every arm wants its capabilities named")
        assert wait.arms["shy"].startswith("takes only tasks that name")

    def test_tells_a_pause_from_a_full_arm(self) -> None:
        queue = a_queue(ready())

        paused = why_waiting(queue, paused_fleet(), task_id(1))
        room = why_waiting(queue, a_fleet(facts("one")), task_id(1))

        assert paused.arms == {"one": "paused after a failed dispatch"}
        assert room.arms == {"one": "has room"}

    def test_counts_the_tasks_before_it(self) -> None:
        queue = a_queue(ready(1, priority=9), ready(2), ready(3, tier="batch"))

        assert [why_waiting(queue, Fleet(), task_id(n)).position for n in (1, 2, 3)] == [1, 0, 2]

    def test_does_not_know_what_does_not_wait(self) -> None:
        assert why_waiting(an_empty_queue(), Fleet(), task_id(1)).position is None


class TestSummary:
    def test_counts_by_tier_tenant_and_reason(self) -> None:
        queue = a_queue(ready(1), ready(2, tier="batch"), ready(3, arm="two"))

        found = summary(queue, full_fleet(), now=NOON_S + 7)

        assert found.by_tier == {"interactive": 2, "batch": 1}
        assert found.by_tenant == {"default": 3}
        assert found.blocked == {
            "every capable arm is full": 2,
            "pinned to two: not registered": 1,
        }
        assert found.oldest_wait_s == 7
        assert found.in_flight == {"one": 1}

    def test_of_nothing_is_nothing(self) -> None:
        found = summary(an_empty_queue(), Fleet(), now=NOON_S)

        assert (found.by_tier, found.oldest_wait_s) == ({}, 0.0)
