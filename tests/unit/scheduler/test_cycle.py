"""A cycle as the bus needs it: what goes where, why, and what is in flight then.

Which task goes first, and to which arm, is what the tests of the policies are about.
"""

from octarm.policies.queue.cycle import placeable
from octarm.policies.queue.homes import Homes
from octarm.scheduler.domain.cycle import Placement, place
from octarm.scheduler.domain.fleet import Fleet
from octarm.scheduler.domain.queue import ShardQueue
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


def run(queue: ShardQueue, fleet: Fleet, window: int = 256) -> list[Placement]:
    return place(queue, fleet, Homes(), now=NOON_S, monotonic=1000.0, window=window)


def went(placements: list[Placement]) -> list[tuple[str, str]]:
    return [(it.task.task_id, it.pool.arm_id) for it in placements]


def test_says_why_with_the_five_best_scores() -> None:
    fleet = a_fleet(*[facts(f"arm-{number}") for number in range(7)])

    (placement,) = run(a_queue(ready(), fleet=fleet), fleet)

    assert placement.reason == "the best of the arms with room"
    assert [score.arm_id for score in placement.scores] == [f"arm-{n}" for n in range(5)]
    assert placement.scores[0].score == 1.0
    assert placement.scores[0].note == "share of slots in use 0, cost tier 1"


def test_what_is_placed_is_in_flight() -> None:
    fleet = a_fleet(facts("one"))

    run(a_queue(ready(), fleet=fleet), fleet)

    flight = fleet.flight(task_id(1), 1)
    assert flight is not None
    assert (flight.pool.arm_id, flight.since, fleet.pool("one").free) == ("one", 1000.0, 0)


def test_the_window_bounds_a_cycle() -> None:
    fleet = a_fleet(facts("one"), slots=9)
    queue = a_queue(*[ready(number) for number in range(5)], fleet=fleet)

    assert len(run(queue, fleet, window=3)) == 3
    assert len(run(queue, fleet, window=3)) == 2


def test_what_is_blocked_waits_until_an_arm_has_room() -> None:
    fleet = a_fleet(facts("one"))
    queue = a_queue(ready(1), ready(2), ready(3, needs=["absent"]), fleet=fleet)
    run(queue, fleet)

    assert not run(queue, fleet)
    assert not placeable(queue, now=NOON_S)
    fleet.release(task_id(1), 1)
    assert placeable(queue, now=NOON_S)
    assert went(run(queue, fleet)) == [(task_id(2), "one")]


def test_a_new_arm_is_taken_when_it_has_slots() -> None:
    fleet = a_fleet()
    queue = a_queue(ready(), fleet=fleet)
    run(queue, fleet)

    fleet.learn(facts("one"), at_s=NOON_S)
    without_slots = run(queue, fleet)
    fleet.beat(beat("one"), now=1000.0)

    assert not without_slots
    assert went(run(queue, fleet)) == [(task_id(1), "one")]


def test_what_an_earlier_queue_held_is_never_placed() -> None:
    fleet = a_fleet(facts("one"))
    run(a_queue(ready(1), ready(2), fleet=fleet), fleet)

    queue = an_empty_queue(fleet)
    fleet.release(task_id(1), 1)

    assert not run(queue, fleet)


def test_a_pinned_task_goes_nowhere_else() -> None:
    fleet = a_fleet(facts("one"), slots=9)
    queue = a_queue(ready(arm="two"), fleet=fleet)

    before = run(queue, fleet)
    fleet.learn(facts("two"), at_s=NOON_S)
    fleet.beat(beat("two"), now=1000.0)
    (placement,) = run(queue, fleet)

    assert not before
    assert (placement.pool.arm_id, placement.reason) == ("two", "the pinned arm")
