"""Leaders of several shards that share the arms."""

from octarm.models.hot import ResultKey
from octarm.scheduler.domain.turns import YIELD_S, yield_s
from octarm.scheduler.usecases.follow import FreeSlot
from octarm.scheduler.usecases.rivals import REMEMBERED, Placed, Placements, Rivals
from tests.support.scheduling import NOON_S, a_desk, facts, task_id


def _placements(*numbers: int, shard: int = 1, arm_id: str = "one") -> Placements:
    return Placements(shard, arm_id, [Placed(task_id(n), 1) for n in numbers])


def _result(number: int) -> ResultKey:
    return ResultKey(task_id(number), 1, "one")


class TestTurns:
    def test_each_shard_is_first_in_turn(self) -> None:
        waits = [
            [yield_s("one", shard=shard, shards=3, at_s=NOON_S + second) for shard in range(3)]
            for second in range(3)
        ]

        for one in (*waits, *zip(*waits, strict=True)):
            assert sorted(one) == [0.0, YIELD_S, 2 * YIELD_S]

    def test_different_arms_begin_with_different_shards(self) -> None:
        firsts = {yield_s(f"arm-{n}", shard=0, shards=2, at_s=NOON_S) for n in range(20)}

        assert firsts == {0.0, YIELD_S}


class TestRivals:
    def test_what_another_leader_placed_takes_its_slots(self) -> None:
        desk = a_desk(facts("one"), slots=3)

        Rivals(desk, 2).placed(_placements(1, 2))

        assert desk.fleet.pool("one").free == 1

    def test_its_own_placements_are_counted_already(self) -> None:
        desk = a_desk(facts("one"), slots=3)

        Rivals(desk, 2).placed(_placements(1, 2, shard=0))

        assert desk.fleet.pool("one").free == 3

    def test_a_placement_that_its_result_has_overtaken_takes_none(self) -> None:
        desk = a_desk(facts("one"), slots=3)
        rivals = Rivals(desk, 2)

        rivals.ending(_result(1))
        rivals.placed(_placements(1, 2))

        assert desk.fleet.pool("one").free == 2

    def test_remembers_only_so_many_results(self) -> None:
        desk = a_desk(facts("one"), slots=3)
        rivals = Rivals(desk, 2)
        for number in range(REMEMBERED + 1):
            rivals.ending(_result(number))

        rivals.placed(_placements(0, REMEMBERED))

        assert desk.fleet.pool("one").free == 2

    def test_the_freed_slot_of_a_full_arm_is_left_to_the_one_whose_turn_it_is(self) -> None:
        rooms = []
        for shard in range(2):
            desk = a_desk(facts("one"), slots=2)
            desk.shard = shard
            rivals = Rivals(desk, 2)
            rivals.placed(_placements(1, 2, shard=7))

            rivals.ending(_result(1))
            FreeSlot(desk)(_result(1))
            at_once = desk.fleet.pool("one").free
            desk.fleet.resume(desk.clock.monotonic() + YIELD_S)
            rooms.append((at_once, desk.fleet.pool("one").free))

        assert sorted(rooms) == [(0, 1), (1, 1)]

    def test_an_arm_with_room_is_left_to_nobody(self) -> None:
        for shard in range(2):
            desk = a_desk(facts("one"), slots=3)
            desk.shard = shard
            rivals = Rivals(desk, 2)
            rivals.placed(_placements(1, 2, shard=7))

            rivals.ending(_result(1))

            assert desk.fleet.pool("one").free == 1
