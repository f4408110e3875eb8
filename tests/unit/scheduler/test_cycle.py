"""Which task goes to which arm, in one cycle and over many."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from octarm.common.testing.fakes import NOON
from octarm.scheduler.domain.cycle import Decision, place, placeable
from octarm.scheduler.domain.fleet import ArmFacts, Fleet
from octarm.scheduler.domain.priority import preference
from octarm.scheduler.domain.queue import QueueView
from tests.support.scheduling import a_fleet, a_queue, beat, facts, ready, task_id, waiting


def run(queue: QueueView, fleet: Fleet, window: int = 256) -> list[Decision]:
    return place(queue, fleet, preference, now=1000.0, window=window)


def went(decisions: list[Decision]) -> list[tuple[str, str]]:
    return [(decision.task.task_id, decision.arm.arm_id) for decision in decisions]


class TestOrder:
    def test_the_interactive_tier_goes_before_batch_then_priority_then_id(self) -> None:
        queue = a_queue(
            ready(1, tier="batch", priority=1),
            ready(2, priority=9),
            ready(3, priority=2),
            ready(4, priority=2),
        )

        placed = [it.task.task_id for it in run(queue, a_fleet(facts("one"), slots=9))]

        assert placed == [task_id(3), task_id(4), task_id(2), task_id(1)]

    def test_a_minute_of_waiting_counts_for_one_step_of_priority(self) -> None:
        aged = ready(9, priority=6, queued_at=NOON - timedelta(seconds=61))
        queue = a_queue(ready(1, priority=5), aged)

        first, _ = run(queue, a_fleet(facts("one"), slots=9))

        assert first.task.task_id == task_id(9)

    def test_order_holds_across_groups(self) -> None:
        queue = a_queue(
            ready(1, priority=3, needs=["a"]),
            ready(2, priority=1, needs=["b"]),
            ready(3, priority=2, needs=["a"]),
        )

        placed = [it.task.task_id for it in run(queue, a_fleet(facts("one", tags="ab"), slots=2))]

        assert placed == [task_id(2), task_id(3)]

    def test_the_window_bounds_a_cycle(self) -> None:
        queue = a_queue(*[ready(number) for number in range(5)])
        fleet = a_fleet(facts("one"), slots=9)

        assert len(run(queue, fleet, window=3)) == 3
        assert len(run(queue, fleet, window=3)) == 2


class TestChoice:
    def test_prefers_the_least_busy_then_the_cheapest_then_the_smallest_id(self) -> None:
        queue = a_queue(*[ready(number) for number in range(4)])
        fleet = a_fleet(facts("b"), facts("a"), facts("dear", cost=2), slots=2)

        arms = [it.arm.arm_id for it in run(queue, fleet)]

        assert arms == ["a", "b", "dear", "a"]

    def test_says_why_with_the_five_best_scores(self) -> None:
        queue = a_queue(ready())
        fleet = a_fleet(*[facts(f"arm-{number}") for number in range(7)])

        (decision,) = run(queue, fleet)

        assert decision.reason == "least busy of 7 arms with room"
        assert [score.arm_id for score in decision.scores] == [f"arm-{n}" for n in range(5)]
        assert decision.scores[0].score == 1.0
        assert decision.scores[0].note == "0 of 1 slots in use"

    def test_says_that_the_arm_was_the_only_or_the_pinned_one(self) -> None:
        queue = a_queue(ready(1), ready(2, arm="two"))
        fleet = a_fleet(facts("one", cost=1), facts("two", tags=["other", "work"], cost=1))
        fleet.beat(beat("two", slots=0), now=1000.0)

        (only,) = run(queue, fleet)
        fleet.beat(beat("two", slots=1), now=1000.0)
        (pinned,) = run(queue, fleet)

        assert only.reason == "the only arm with room"
        assert (pinned.reason, pinned.arm.arm_id) == ("the pinned arm", "two")


class TestHardFilter:
    def test_an_arm_needs_every_capability(self) -> None:
        both = ready(needs=["work", "english"])

        assert not run(a_queue(both), a_fleet(facts("one", tags=["work"])))
        assert run(a_queue(both), a_fleet(facts("two", tags=["work", "english", "x"])))

    def test_a_pinned_task_never_goes_elsewhere(self) -> None:
        assert not run(a_queue(ready(arm="two")), a_fleet(facts("one"), slots=9))

    def test_draining_and_offline_arms_get_nothing(self) -> None:
        fleet = a_fleet(facts("one", status="draining"), facts("two", status="offline"))

        assert not run(a_queue(ready()), fleet)

    def test_a_degraded_arm_is_taken_only_when_no_capable_arm_is_online(self) -> None:
        fleet = a_fleet(facts("bad", status="degraded"), facts("good"))

        placed = run(a_queue(ready(1), ready(2)), fleet)
        fleet.learn(facts("good", status="offline"))
        later = run(a_queue(ready(3)), fleet)

        assert went(placed) == [(task_id(1), "good")]
        assert went(later) == [(task_id(3), "bad")]


class TestBlockedGroups:
    def test_sleep_until_an_arm_they_wait_for_has_room(self) -> None:
        queue = a_queue(ready(1), ready(2), ready(3, needs=["absent"]))
        fleet = a_fleet(facts("one"))
        run(queue, fleet)

        assert not run(queue, fleet)
        assert not queue.awake
        assert not placeable(queue, fleet)
        fleet.release(task_id(1), 1)
        assert placeable(queue, fleet)
        assert went(run(queue, fleet)) == [(task_id(2), "one")]

    def test_a_new_arm_wakes_them_all(self) -> None:
        queue = a_queue(ready())
        fleet = a_fleet()
        run(queue, fleet)

        fleet.learn(facts("one"))
        queue.wake_all()
        assert not run(queue, fleet)
        fleet.beat(beat("one"), now=1000.0)

        assert went(run(queue, fleet)) == [(task_id(1), "one")]

    def test_a_task_put_back_is_found_though_its_group_was_forgotten(self) -> None:
        queue = a_queue(ready())
        fleet = a_fleet(facts("one"))
        (decision,) = run(queue, fleet)
        queue.wake_all()

        fleet.release(task_id(1), 1)
        queue.add(decision.task)

        assert queue.depth() == {"interactive": 1, "batch": 0}
        queue.wake_all()
        assert len(run(queue, fleet)) == 1

    def test_needs_in_another_order_are_the_same_group(self) -> None:
        queue = a_queue(ready(1, needs=["a", "b"]), ready(2, needs=["b", "a"]))

        assert len(queue.groups()) == 1


TAGS = st.sampled_from(["a", "b", "c"])
STATUS = st.sampled_from(["online", "degraded", "draining", "offline"])
ARMS = st.lists(
    st.tuples(st.sets(TAGS, min_size=1), STATUS, st.integers(1, 5), st.integers(0, 3)), max_size=5
)
TASKS = st.lists(
    st.tuples(
        st.sets(TAGS),
        st.sampled_from(["interactive", "batch"]),
        st.integers(1, 10),
        st.sampled_from([None, "arm-0", "arm-1", "arm-9"]),
        st.integers(0, 600),
    ),
    max_size=12,
)


def the_fleet(arms: list[tuple[set[str], str, int, int]]) -> Fleet:
    fleet = Fleet()
    for number, (tags, status, cost, slots) in enumerate(arms):
        fleet.learn(ArmFacts(f"arm-{number}", status, frozenset(tags), cost))
        fleet.beat(beat(f"arm-{number}", slots), now=1000.0)
    return fleet


def the_tasks(tasks: list[tuple[set[str], str, int, str | None, int]]) -> list[object]:
    return [
        ready(
            number,
            needs=sorted(needs),
            tier=tier,
            priority=priority,
            arm=arm,
            queued_at=NOON - timedelta(seconds=waited),
        )
        for number, (needs, tier, priority, arm, waited) in enumerate(tasks)
    ]


class TestProperties:
    @given(ARMS, TASKS)
    def test_never_an_ineligible_arm_and_never_more_than_its_slots(self, arms, tasks) -> None:  # type: ignore[no-untyped-def]
        fleet = the_fleet(arms)

        decisions = run(a_queue(*the_tasks(tasks)), fleet)  # type: ignore[arg-type]

        for decision in decisions:
            known, task = decision.arm.facts, decision.task.ready
            assert known is not None
            assert set(task.needs) <= known.capabilities
            assert known.status in ("online", "degraded")
            assert task.assigned_arm in (None, decision.arm.arm_id)
        assert all(len(arm.flights) <= arm.slots for arm in fleet.arms.values())

    @given(ARMS, TASKS, st.randoms(use_true_random=False))
    def test_the_order_of_arrival_does_not_matter(self, arms, tasks, random) -> None:  # type: ignore[no-untyped-def]
        made = the_tasks(tasks)
        shuffled = list(made)
        random.shuffle(shuffled)

        one = run(a_queue(*made), the_fleet(arms))  # type: ignore[arg-type]
        other = run(a_queue(*shuffled), the_fleet(arms))  # type: ignore[arg-type]

        assert went(one) == went(other)

    @given(TASKS)
    def test_what_an_idle_capable_fleet_can_take_is_placed(self, tasks) -> None:  # type: ignore[no-untyped-def]
        fleet = a_fleet(*[facts(f"arm-{number}", tags="abc") for number in range(2)], slots=50)

        decisions = run(a_queue(*the_tasks(tasks)), fleet)  # type: ignore[arg-type]

        assert len(decisions) == sum(arm != "arm-9" for *_, arm, _ in tasks)

    @given(st.integers(1, 10), st.integers(1, 10))
    def test_nothing_starves_under_a_steady_stream_of_more_urgent_work(
        self, old: int, new: int
    ) -> None:
        queue, fleet = a_queue(ready(0, tier="batch", priority=old)), a_fleet(facts("one"))
        for minute in range(20):
            now = NOON + timedelta(minutes=minute)
            for number in range(2):
                queue.add(waiting(ready(1 + 2 * minute + number, priority=new, queued_at=now)))
            queue.promote(now.timestamp())
            (decision,) = run(queue, fleet)
            fleet.release(decision.task.task_id, 1)
            if decision.task.task_id == task_id(0):
                return
        raise AssertionError("it never had its turn")


def test_an_arm_that_wants_to_be_named_takes_no_task_that_names_nothing() -> None:
    shy = ArmFacts("shy", "online", frozenset({"shell"}), 1, takes_any=False)

    assert not shy.suits(frozenset(), None)
    assert shy.suits(frozenset({"shell"}), None)
    assert shy.suits(frozenset(), "shy")
