"""Slots that fair shares keep free, and what a tenant that was idle may catch up on."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octarm.policies.builtin import BUILTIN
from octarm.policies.queue.holds import why_waiting
from octarm.policies.queue.queue import Queue, Rules
from octarm.policies.queue.spare import ABOUT_S
from octarm.policies.simulator.jobs import generated
from octarm.policies.simulator.load import Load
from octarm.policies.simulator.world import simulated
from tests.support.waiting import NOW, a_queue, a_task, an_arm, choices, pairs, placed

KEPT = Rules(keep_free=0.1, catch_up=2.0)


def a_fair_queue(*slots: int, rules: Rules = KEPT) -> Queue:
    queue = a_queue("fair_share", rules=rules)
    for number, some in enumerate(slots):
        an_arm(queue.arms, f"a-{number}", slots=some)
    return queue


def come(queue: Queue, tenant: str, count: int, now: float = NOW) -> None:
    for number in range(count):
        name = f"{tenant}-{now - NOW:09.3f}-{number:03}"
        queue.add(a_task(name, tenant=tenant, queued_at=now), now=now)


def run_one(queue: Queue, tenant: str, now: float = NOW) -> None:
    come(queue, tenant, 1, now)
    for it in placed(queue, now):
        queue.land(it.task.task_id, it.task.attempt)


def test_who_is_alone_has_all_slots() -> None:
    queue = a_fair_queue(20)
    come(queue, "noisy", 30)

    assert len(placed(queue)) == 20


def test_beside_another_tenant_a_flood_leaves_a_tenth_to_who_was_idle() -> None:
    queue = a_fair_queue(20)
    run_one(queue, "quiet")
    come(queue, "noisy", 30)

    assert len(placed(queue)) == 18
    come(queue, "quiet", 2, NOW + 1)
    assert [task for task, _ in pairs(placed(queue, NOW + 1))] == [
        "quiet-00001.000-000",
        "quiet-00001.000-001",
    ]


def test_who_waits_says_that_slots_are_kept() -> None:
    queue = a_fair_queue(20)
    run_one(queue, "quiet")
    come(queue, "noisy", 19)
    placed(queue)
    (left,) = queue

    hold = why_waiting(queue, left.task_id, now=NOW)

    assert hold is not None
    assert hold.kind == "full"
    assert hold.reason == "free slots are kept for tenants that want less than their share"


def test_nothing_is_kept_any_more_for_who_has_long_gone() -> None:
    queue = a_fair_queue(20)
    run_one(queue, "quiet")
    come(queue, "noisy", 30)
    placed(queue)

    assert placed(queue, NOW + ABOUT_S - 1) == []
    assert len(placed(queue, NOW + ABOUT_S)) == 2


def test_who_still_runs_something_is_about() -> None:
    queue = a_fair_queue(20)
    come(queue, "quiet", 1)
    placed(queue)
    come(queue, "noisy", 30)

    assert len(placed(queue, NOW + 10 * ABOUT_S)) == 17


def test_whole_slots_are_kept_of_many_small_arms_too() -> None:
    queue = a_fair_queue(*[4] * 5)
    run_one(queue, "quiet")
    come(queue, "noisy", 30)

    assert len(placed(queue)) == 18
    assert sum(arm.kept for arm in queue.arms.by_id.values()) == 2
    an_arm(queue.arms, "a-9", slots=20)
    assert len(placed(queue)) == 12
    queue.arms.unlearn("a-9")
    assert placed(queue) == []
    assert sum(arm.kept for arm in queue.arms.by_id.values()) == 2


def test_nothing_is_kept_where_no_tenth_is_a_slot_or_none_is_asked_for() -> None:
    for queue in (a_fair_queue(9), a_fair_queue(20, rules=Rules())):
        run_one(queue, "quiet")
        come(queue, "noisy", 30)

        assert len(placed(queue)) == queue.arms.slots


def test_a_tenant_that_was_idle_catches_up_on_two_rounds_of_all_slots() -> None:
    queue = a_fair_queue(10, rules=Rules(catch_up=2.0))
    run_one(queue, "quiet")
    come(queue, "noisy", 200)
    flying: list[tuple[str, int]] = []
    for _ in range(6):
        flying = [*((it.task.task_id, it.task.attempt) for it in placed(queue))]
        for key in flying:
            queue.land(*key)
    come(queue, "quiet", 30)

    rounds = []
    for _ in range(3):
        decisions = placed(queue)
        rounds.append(sum(it.task.tenant == "quiet" for it in decisions))
        for it in decisions:
            queue.land(it.task.task_id, it.task.attempt)

    assert rounds[:2] == [10, 10]
    assert rounds[2] in (5, 6)


def test_a_script_sees_and_may_use_every_slot() -> None:
    queue = a_fair_queue(20)
    run_one(queue, "quiet")
    come(queue, "noisy", 30)
    placed(queue)

    assert [arm.seen().free for arm in queue.arms.by_id.values()] == [2]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_is_left_is_left_for_those_who_want_little_and_all_ends(seed: int) -> None:
    random, now = Random(seed), NOW
    queue = a_fair_queue(
        *[random.randrange(1, 9) for _ in range(4)], rules=Rules(1000, keep_free=0.2, catch_up=1.0)
    )
    flying: list[tuple[str, int]] = []
    for _ in range(60):
        now += 0.001 + random.random()
        come(queue, random.choice("abc"), random.randrange(6), now)
        random.shuffle(flying)
        for key in [flying.pop() for _ in range(random.randrange(len(flying) + 1))]:
            queue.land(*key)
        flying += [(it.task.task_id, it.task.attempt) for it in placed(queue, now)]
        for task in queue:
            for arm in choices(queue, task, now):
                assert arm.free <= arm.kept
    for _ in range(2000):
        if not len(queue):
            break
        flying += [(it.task.task_id, it.task.attempt) for it in placed(queue, now)]
        queue.land(*flying.pop())

    assert not len(queue)


def test_what_an_earlier_leader_has_placed_counts() -> None:
    queue = a_fair_queue(20)
    run_one(queue, "quiet")
    arm = queue.arms.by_id["a-0"]
    for number in range(10):
        queue.arms.hold(arm, 1)
        for _ in "twice":
            queue.adopt(a_task(f"q-{number}", tenant="quiet"), arm, now=NOW)
    come(queue, "noisy", 30)

    assert len(placed(queue)) == 8
    come(queue, "quiet", 1, NOW + 1)
    assert placed(queue, NOW + 1) == [], "it has its half"


def test_what_another_policy_has_placed_counts() -> None:
    queue = a_queue("priority", rules=KEPT)
    an_arm(queue.arms, "a-0", slots=20)
    come(queue, "quiet", 10)
    placed(queue)

    queue.use(BUILTIN["fair_share"], now=NOW)
    come(queue, "quiet", 1, NOW + 1)
    come(queue, "noisy", 30, NOW + 1)

    assert len(placed(queue, NOW + 1)) == 8
    come(queue, "quiet", 1, NOW + 2)
    assert placed(queue, NOW + 2) == [], "it has its half"


@pytest.mark.parametrize("kind", ["uniform", "constant"])
@pytest.mark.parametrize("bursts", [False, True])
def test_beside_a_flood_waits_stay_within_twice_what_they_are_alone(
    kind: str, bursts: bool
) -> None:
    at_s = [t for burst in range(8) for t in [2 + 0.7 * burst] * 40]
    often = {"process": "poisson", "rate_per_s": 20}

    def p95(flood: int) -> float:
        duration = {"kind": kind, "mean_s": 0.05}
        quiet = {"process": "trace", "at_s": at_s} if bursts else often
        streams = [
            {"name": name, "tenant": name, "duration": duration, "arrivals": arrivals}
            for name, arrivals in (
                ("quiet", quiet),
                ("noisy", {"process": "trace", "at_s": [1.0] * flood}),
            )
        ]
        arms = [{"id": "a", "slots": 20}]
        load = Load.model_validate(
            {"duration_s": 8, "drain_s": 60, "cycle_ms": 5, "arms": arms, "tasks": streams}
        )
        found = simulated(load, BUILTIN["fair_share"], generated(load, 1), 1)
        return found.by_tenant["quiet"].wait_p95_s

    assert p95(3000) <= 2 * p95(1)
