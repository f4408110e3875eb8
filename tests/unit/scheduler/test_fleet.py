"""Slots, attempts in flight, silent instances."""

import msgspec

from octarm.policies.queue.homes import Homes
from octarm.scheduler.domain.cycle import place
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

FIRST, SECOND = (task_id(1), 1), (task_id(2), 1)


class TestSlots:
    def test_free_slots_are_those_of_live_ready_instances_minus_what_is_in_flight(self) -> None:
        fleet = a_fleet(facts("one"), slots=2)
        fleet.beat(beat("one", 3, instance="i-2"), now=1000.0)
        fleet.beat(beat("one", 9, instance="i-3", status="draining"), now=1000.0)
        arm = fleet.pool("one")

        fleet.reserve(arm, FIRST, now=1000.0)
        fleet.reserve(arm, FIRST, now=1000.0)

        assert arm.free == 4

    def test_fewer_slots_than_attempts_are_none_free(self) -> None:
        fleet = a_fleet(facts("one"), slots=1)
        fleet.reserve(fleet.pool("one"), FIRST, now=1000.0)

        fleet.beat(beat("one", 0), now=1001.0)

        assert fleet.pool("one").free == 0

    def test_a_paused_arm_has_none_until_its_pause_is_over(self) -> None:
        fleet = a_fleet(facts("one"))
        arm = fleet.pool("one")

        fleet.pause(arm, until=1005.0)

        assert fleet.resume(1004.0) == 1005.0
        assert arm.free == 0
        assert fleet.resume(1005.0) is None
        assert arm.free == 1


class TestSeveralSlots:
    def test_are_taken_and_given_back_together(self) -> None:
        fleet = a_fleet(facts("one"), slots=4)
        queue = a_queue(ready(1, slots=3), ready(2, slots=3), fleet=fleet)

        (placement,) = place(queue, fleet, Homes(), now=NOON_S, monotonic=1000.0)
        free = placement.pool.free
        fleet.beat(beat("one", 4, [(*FIRST, 3)]), now=1001.0)
        fleet.beat(beat("one", 4), now=1002.0)

        assert (free, fleet.pool("one").free) == (1, 4)

    def test_of_what_others_placed_count_as_they_are_reported(self) -> None:
        fleet = a_fleet(facts("one"), slots=4)
        fleet.beat(beat("one", 4, [(*FIRST, 3)]), now=1001.0)
        free = fleet.pool("one").free

        fleet.land(now=1002.0)
        landed = fleet.pool("one").free
        fleet.release(*FIRST)

        assert (free, landed, fleet.pool("one").free) == (1, 1, 4)

    def test_are_those_of_one_instance(self) -> None:
        fleet = a_fleet(facts("one"), slots=2)
        fleet.beat(beat("one", 2, instance="i-2", interval_s=60), now=1000.0)
        queue = a_queue(ready(1, slots=3), ready(2, slots=2), fleet=fleet)

        placements = place(queue, fleet, Homes(), now=NOON_S, monotonic=1000.0)

        assert [it.task.task_id for it in placements] == [task_id(2)]

    def test_are_waited_for_while_no_instance_has_them_free(self) -> None:
        fleet = a_fleet(facts("one"), slots=2)
        others = [(task_id(8), 1), (task_id(9), 1)]
        fleet.beat(beat("one", 2, [others[0]], interval_s=60), now=1000.0)
        fleet.beat(beat("one", 2, [others[1]], instance="i-2", interval_s=60), now=1000.0)
        queue = a_queue(ready(1, slots=2), fleet=fleet)

        assert place(queue, fleet, Homes(), now=NOON_S, monotonic=1000.0) == []
        fleet.beat(beat("one", 2, interval_s=60), now=1005.0)

        assert len(place(queue, fleet, Homes(), now=NOON_S, monotonic=1005.0)) == 1


class TestBeats:
    def test_work_that_another_placed_counts(self) -> None:
        fleet = a_fleet(facts("one"))

        fleet.beat(beat("one", running=[FIRST]), now=1001.0)

        assert fleet.flight(*FIRST) is not None
        assert fleet.pool("one").free == 0

    def test_what_is_not_listed_any_more_has_ended(self) -> None:
        fleet = a_fleet(facts("one"), slots=2)
        fleet.reserve(fleet.pool("one"), SECOND, now=1000.0)
        fleet.beat(beat("one", 2, [FIRST, SECOND]), now=1001.0)

        fleet.beat(beat("one", 2, [SECOND]), now=1006.0)

        assert fleet.flight(*FIRST) is None
        assert fleet.flight(*SECOND) is not None

    def test_what_was_placed_and_not_yet_listed_stays(self) -> None:
        fleet = a_fleet(facts("one"))
        fleet.reserve(fleet.pool("one"), FIRST, now=1000.0)

        fleet.beat(beat("one"), now=1001.0)

        assert fleet.flight(*FIRST) is not None

    def test_a_draining_instance_gives_neither_slots_nor_load(self) -> None:
        fleet = a_fleet(facts("one"))
        fleet.beat(beat("one", running=[FIRST]), now=1001.0)

        fleet.beat(beat("one", running=[FIRST], status="draining"), now=1002.0)

        assert fleet.flight(*FIRST) is None
        assert fleet.pool("one").slots == 0

    def test_a_silent_instance_goes_with_the_work_it_reported(self) -> None:
        fleet = an_empty_fleet()
        fleet.beat(beat("one", 2, [FIRST]), now=1000.0)
        fleet.reserve(fleet.pool("one"), SECOND, now=1000.0)

        assert fleet.next_expiry() == 1015.0
        assert fleet.expire(1014.9) == []
        assert fleet.expire(1015.0) == ["one/i-1"]

        assert fleet.pool("one").slots == 0
        assert fleet.flight(*FIRST) is None
        assert fleet.flight(*SECOND) is not None
        assert fleet.next_expiry() is None

    def test_an_unregistered_arm_is_forgotten_with_its_last_instance(self) -> None:
        fleet = a_fleet(facts("one"))
        fleet.beat(beat("one"), now=1000.0)
        fleet.beat(beat("stranger"), now=1000.0)
        fleet.beat(beat("busy"), now=1000.0)
        fleet.reserve(fleet.pool("busy"), FIRST, now=1000.0)

        fleet.expire(1015.0)
        with_work = set(fleet.pools)
        fleet.release(*FIRST)
        fleet.expire(1016.0)

        assert with_work == {"one", "busy"}
        assert set(fleet.pools) == {"one"}


class TestFlights:
    def test_an_attempt_found_elsewhere_moves_there(self) -> None:
        fleet = a_fleet(facts("one"), facts("two"))
        fleet.reserve(fleet.pool("one"), FIRST, now=1000.0)

        fleet.reserve(fleet.pool("two"), FIRST, now=1000.0)

        assert not fleet.pool("one").flights
        assert FIRST in fleet.pool("two").flights

    def test_suspects_are_old_and_reported_by_nobody(self) -> None:
        fleet = a_fleet(facts("one"), slots=3)
        arm = fleet.pool("one")
        for key in (FIRST, SECOND):
            fleet.reserve(arm, key, now=1000.0)
        fleet.beat(beat("one", 3, [FIRST]), now=1010.0)

        assert fleet.suspects("one", now=1015.0) == []
        assert fleet.suspects("one", now=1015.1) == [SECOND]

    def test_landing_leaves_what_live_ready_instances_report(self) -> None:
        fleet = a_fleet(facts("one"), slots=3)
        fleet.beat(beat("one", 3, [FIRST]), now=1010.0)
        fleet.beat(beat("one", 3, [], instance="i-2", status="draining"), now=1010.0)
        fleet.reserve(fleet.pool("one"), SECOND, now=1010.0)

        fleet.land(now=1011.0)

        assert list(fleet.pool("one").flights) == [FIRST]
        assert not fleet.release(*SECOND)


class TestDirectory:
    def test_a_relisting_forgets_the_arms_it_does_not_name(self) -> None:
        fleet = a_fleet(facts("one"), facts("two"))
        epoch = fleet.arms.epoch

        fleet.relearn([facts("two"), facts("three")], at_s=NOON_S)

        assert fleet.arms.epoch == epoch + 2
        assert set(fleet.arms.by_id) == {"two", "three"}
        assert not fleet.pool("one").listed

    def test_what_is_known_already_changes_nothing(self) -> None:
        fleet = a_fleet(facts("one"))
        epoch = fleet.arms.epoch

        fleet.learn(facts("one"), at_s=NOON_S)
        fleet.unlearn("nobody")
        fleet.unlearn("one")
        fleet.unlearn("one")

        assert fleet.arms.epoch == epoch + 1

    def test_an_arm_that_comes_back_has_what_it_had(self) -> None:
        fleet = a_fleet(facts("one"), slots=3)
        fleet.reserve(fleet.pool("one"), FIRST, now=1000.0)
        fleet.unlearn("one")
        fleet.reserve(fleet.pool("one"), SECOND, now=1000.0)
        fleet.release(*FIRST)

        fleet.learn(facts("one", cost=2), at_s=NOON_S)

        arm = fleet.arms.by_id["one"]
        assert (arm.slots, arm.used, arm.free, arm.facts.cost_tier) == (3, 1, 2, 2)

    def test_a_pause_ends_when_the_arm_is_gone(self) -> None:
        fleet = a_fleet(facts("one"))
        fleet.pause(fleet.pool("one"), until=2000.0)

        fleet.unlearn("one")
        fleet.learn(facts("one"), at_s=NOON_S)

        assert fleet.pool("one").free == 1
        assert fleet.resume(1000.0) is None


class TestPlacing:
    def test_what_the_queue_placed_is_given_back_to_its_limits(self) -> None:
        fleet = a_fleet(facts("one"), slots=3)
        queue = a_queue(ready(1), ready(2), fleet=fleet)

        place(queue, fleet, Homes(), now=NOON_S, monotonic=1000.0)
        both = queue.running["default"], fleet.pool("one").free
        fleet.release(task_id(1), 1)

        assert both == (2, 1)
        assert (queue.running["default"], fleet.pool("one").free) == (1, 2)

    def test_what_an_earlier_queue_placed_stays_on_the_arm(self) -> None:
        fleet = a_fleet(facts("one"), slots=3)
        place(a_queue(ready(1), fleet=fleet), fleet, Homes(), now=NOON_S, monotonic=1000.0)

        an_empty_queue(fleet)
        before = fleet.pool("one").free
        fleet.release(task_id(1), 1)

        assert (before, fleet.pool("one").free) == (2, 3)

    def test_an_arm_tells_how_it_does(self) -> None:
        fleet = a_fleet(facts("one"))
        said = msgspec.structs.replace(
            beat("one", 1, instance="i-2"), load=0.5, avg_latency_ms=300.0, error_rate=0.5
        )

        fleet.beat(said, now=1000.0)

        arm = fleet.arms.by_id["one"]
        assert (arm.load, arm.latency_s, arm.success) == (0.25, 0.15, 0.75)
