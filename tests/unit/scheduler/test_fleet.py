"""Slots, attempts in flight, silent instances."""

from octarm.scheduler.domain.fleet import Fleet
from tests.support.scheduling import a_fleet, beat, facts, task_id

FIRST, SECOND = (task_id(1), 1), (task_id(2), 1)


class TestSlots:
    def test_free_slots_are_those_of_live_ready_instances_minus_what_is_in_flight(self) -> None:
        fleet = a_fleet(facts("one"), slots=2)
        fleet.beat(beat("one", 3, instance="i-2"), now=1000.0)
        fleet.beat(beat("one", 9, instance="i-3", status="draining"), now=1000.0)
        arm = fleet.arm("one")

        fleet.reserve(arm, FIRST, now=1000.0)
        fleet.reserve(arm, FIRST, now=1000.0)

        assert arm.free == 4

    def test_fewer_slots_than_attempts_are_none_free(self) -> None:
        fleet = a_fleet(facts("one"), slots=1)
        fleet.reserve(fleet.arm("one"), FIRST, now=1000.0)

        fleet.beat(beat("one", 0), now=1001.0)

        assert fleet.arm("one").free == 0

    def test_a_paused_arm_has_none_until_its_pause_is_over(self) -> None:
        fleet = a_fleet(facts("one"))
        arm = fleet.arm("one")

        fleet.pause(arm, until=1005.0)

        assert fleet.resume(1004.0) == 1005.0
        assert arm.free == 0
        assert fleet.resume(1005.0) is None
        assert arm.free == 1


class TestBeats:
    def test_work_that_another_placed_counts(self) -> None:
        fleet = a_fleet(facts("one"))

        fleet.beat(beat("one", running=[FIRST]), now=1001.0)

        assert fleet.flight(*FIRST) is not None
        assert fleet.arm("one").free == 0

    def test_what_is_not_listed_any_more_has_ended(self) -> None:
        fleet = a_fleet(facts("one"), slots=2)
        fleet.reserve(fleet.arm("one"), SECOND, now=1000.0)
        fleet.beat(beat("one", 2, [FIRST, SECOND]), now=1001.0)

        fleet.beat(beat("one", 2, [SECOND]), now=1006.0)

        assert fleet.flight(*FIRST) is None
        assert fleet.flight(*SECOND) is not None

    def test_what_was_placed_and_not_yet_listed_stays(self) -> None:
        fleet = a_fleet(facts("one"))
        fleet.reserve(fleet.arm("one"), FIRST, now=1000.0)

        fleet.beat(beat("one"), now=1001.0)

        assert fleet.flight(*FIRST) is not None

    def test_a_draining_instance_gives_neither_slots_nor_load(self) -> None:
        fleet = a_fleet(facts("one"))
        fleet.beat(beat("one", running=[FIRST]), now=1001.0)

        fleet.beat(beat("one", running=[FIRST], status="draining"), now=1002.0)

        assert fleet.flight(*FIRST) is None
        assert fleet.arm("one").slots == 0

    def test_a_silent_instance_goes_with_the_work_it_reported(self) -> None:
        fleet = Fleet()
        fleet.beat(beat("one", 2, [FIRST]), now=1000.0)
        fleet.reserve(fleet.arm("one"), SECOND, now=1000.0)

        assert fleet.next_expiry() == 1015.0
        assert fleet.expire(1014.9) == []
        assert fleet.expire(1015.0) == ["one/i-1"]

        assert fleet.arm("one").slots == 0
        assert fleet.flight(*FIRST) is None
        assert fleet.flight(*SECOND) is not None
        assert fleet.next_expiry() is None

    def test_an_unregistered_arm_is_forgotten_with_its_last_instance(self) -> None:
        fleet = a_fleet(facts("one"))
        fleet.beat(beat("one"), now=1000.0)
        fleet.beat(beat("stranger"), now=1000.0)
        fleet.beat(beat("busy"), now=1000.0)
        fleet.reserve(fleet.arm("busy"), FIRST, now=1000.0)

        fleet.expire(1015.0)
        with_work = set(fleet.arms)
        fleet.release(*FIRST)
        fleet.expire(1016.0)

        assert with_work == {"one", "busy"}
        assert set(fleet.arms) == {"one"}


class TestFlights:
    def test_an_attempt_found_elsewhere_moves_there(self) -> None:
        fleet = a_fleet(facts("one"), facts("two"))
        fleet.reserve(fleet.arm("one"), FIRST, now=1000.0)

        fleet.reserve(fleet.arm("two"), FIRST, now=1000.0)

        assert not fleet.arm("one").flights
        assert FIRST in fleet.arm("two").flights

    def test_suspects_are_old_and_reported_by_nobody(self) -> None:
        fleet = a_fleet(facts("one"), slots=3)
        arm = fleet.arm("one")
        for key in (FIRST, SECOND):
            fleet.reserve(arm, key, now=1000.0)
        fleet.beat(beat("one", 3, [FIRST]), now=1010.0)

        assert fleet.suspects("one", now=1015.0) == []
        assert fleet.suspects("one", now=1015.1) == [SECOND]

    def test_landing_leaves_what_live_ready_instances_report(self) -> None:
        fleet = a_fleet(facts("one"), slots=3)
        fleet.beat(beat("one", 3, [FIRST]), now=1010.0)
        fleet.beat(beat("one", 3, [], instance="i-2", status="draining"), now=1010.0)
        fleet.reserve(fleet.arm("one"), SECOND, now=1010.0)

        fleet.land(now=1011.0)

        assert list(fleet.arm("one").flights) == [FIRST]
        assert not fleet.release(*SECOND)


class TestDirectory:
    def test_a_relisting_forgets_the_arms_it_does_not_name(self) -> None:
        fleet = a_fleet(facts("one"), facts("two"))
        epoch = fleet.epoch

        fleet.relearn([facts("two"), facts("three")])

        assert fleet.epoch == epoch + 2
        assert fleet.arm("one").facts is None
        assert fleet.arm("three").facts == facts("three")

    def test_what_is_known_already_changes_nothing(self) -> None:
        fleet = a_fleet(facts("one"))
        epoch = fleet.epoch

        fleet.learn(facts("one"))
        fleet.unlearn("nobody")
        fleet.unlearn("one")
        fleet.unlearn("one")

        assert fleet.epoch == epoch + 1
