"""What holds of every built-in policy, whatever comes in whatever order."""

from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from octarm.policies.builtin import BUILTIN
from octarm.policies.eligibility import eligible, refusal
from octarm.policies.queue.limits import LimitRule
from octarm.policies.queue.queue import Queue, Rules
from octarm.policies.queue.tasks import Task
from tests.support.waiting import NOW, a_queue, a_task, an_arm, choices, pairs, placed, plainly_next

NEEDS = ("", "code", "code english", "draw", "absent")
CAPABILITIES = ("code", "code english", "code english draw", "")
PLAIN = sorted(name for name, it in BUILTIN.items() if not (it.fair or it.sticky))
EXAMPLES = settings(max_examples=15, deadline=None)


@dataclass
class Storm:
    """Random things that happen to a queue, by a seed."""

    queue: Queue
    random: Random
    now: float = NOW
    serial: int = 0
    flying: list[tuple[str, int]] = field(default_factory=list)

    def task(self) -> Task:
        self.serial += 1
        pick = self.random.choice
        return a_task(
            f"t-{self.serial:04}",
            queued_at=self.now - self.random.randrange(50),
            needs=pick(NEEDS),
            tenant=pick("abc"),
            tier=pick((0, 1)),
            priority=self.random.randint(1, 10),
            slots=pick((1, 1, 1, 2)),
            assigned_arm=pick((None, None, None, None, "a-1")),
            deadline=pick((None, self.now + 30, self.now + 500)),
            labels={"session": pick("xyz")},
        )

    def happen(self) -> None:
        """Let one thing happen."""
        match self.random.randrange(6):
            case 0 | 1:
                self.queue.add(self.task(), now=self.now)
            case 2 if self.flying:
                self.queue.land(*self.flying.pop(self.random.randrange(len(self.flying))))
            case 3 if len(self.queue):
                self.queue.remove(self.random.choice(list(self.queue)))
            case 4:
                self.change_arm()
            case _:
                self.now += self.random.choice((0.1, 1, 20))
        self.queue.tick(self.now)

    def change_arm(self) -> None:
        """Let an arm come, change or go."""
        arm_id = self.random.choice(("a-1", "a-2", "a-3"))
        if self.random.random() < 0.1:
            self.queue.arms.unlearn(arm_id)
            return
        an_arm(
            self.queue.arms,
            arm_id,
            self.random.choice(CAPABILITIES),
            slots=self.random.randrange(4),
            status=self.random.choice(("online", "online", "online", "degraded", "draining")),
            cost_tier=self.random.randint(1, 5),
            takes_any=self.random.random() < 0.8,
            latency_s=self.random.random(),
            load=self.random.random(),
        )

    def place(self, window: int) -> list[tuple[str, str]]:
        """Run a cycle."""
        decisions = placed(self.queue, self.now, window=window)
        self.flying += [(it.task.task_id, it.task.attempt) for it in decisions]
        return pairs(decisions)


def a_storm(policy: str, seed: int) -> Storm:
    rules = (
        LimitRule("tenant", "task.tenant", concurrency=2),
        LimitRule("session", "task.labels.session", rate_per_s=0.5, burst=2),
    )
    queue = a_queue(policy, limits=rules, rules=Rules(promote_after_s=100, patience_s=60))
    return Storm(queue, Random(seed))


@pytest.mark.parametrize("policy", PLAIN)
@EXAMPLES
@given(seed=st.integers(0, 2**32))
@example(seed=31164)
@example(seed=3780526)
def test_a_cycle_does_what_looking_at_every_task_and_arm_would(policy: str, seed: int) -> None:
    storm = a_storm(policy, seed)

    for _ in range(120):
        storm.happen()
        expected = plainly_next(storm.queue, storm.now)
        assert storm.place(window=1) == ([] if expected is None else [expected])


@pytest.mark.parametrize("policy", sorted(BUILTIN))
@EXAMPLES
@given(seed=st.integers(0, 2**32))
def test_nothing_that_could_be_placed_is_left(policy: str, seed: int) -> None:
    storm = a_storm(policy, seed)

    for _ in range(80):
        storm.happen()
        if storm.random.random() < 0.3:
            storm.place(window=64)
            assert [it.task_id for it in storm.queue if choices(storm.queue, it, storm.now)] == []


@pytest.mark.parametrize("policy", sorted(BUILTIN))
@EXAMPLES
@given(seed=st.integers(0, 2**32))
def test_no_task_goes_to_an_arm_that_may_not_take_it(policy: str, seed: int) -> None:
    storm = a_storm(policy, seed)

    for _ in range(80):
        storm.happen()
        arms = storm.queue.arms
        free = {arm_id: arm.free for arm_id, arm in arms.by_id.items()}
        for it in placed(storm.queue, storm.now, window=8):
            storm.flying.append((it.task.task_id, it.task.attempt))
            facts = it.task.facts(storm.now)
            assert refusal(facts, it.arm.facts, free=free[it.arm.facts.id]) is None
            assert it.arm.facts in eligible(facts, arms.facts())
            free[it.arm.facts.id] -= it.task.slots


@pytest.mark.parametrize("policy", sorted(BUILTIN))
@EXAMPLES
@given(seed=st.integers(0, 2**32))
def test_the_order_of_what_comes_in_does_not_matter(policy: str, seed: int) -> None:
    storm = a_storm(policy, seed)
    tasks = [storm.task() for _ in range(30)]
    names = [(f"a-{n}", storm.random.choice(CAPABILITIES)) for n in range(6)]

    def decided(order: Random) -> list[tuple[str, str]]:
        queue = a_queue(policy)
        for name, capabilities in order.sample(names, len(names)):
            an_arm(queue.arms, name, capabilities, slots=3)
        for given_ in order.sample(tasks, len(tasks)):
            task = a_task(
                given_.task_id,
                queued_at=given_.queued_at,
                needs=" ".join(given_.needs),
                tenant=given_.tenant,
                tier=given_.tier,
                priority=given_.priority,
                deadline=given_.deadline,
                labels=given_.labels,
            )
            queue.add(task, now=NOW)
        return pairs(placed(queue))

    assert decided(Random(1)) == decided(Random(2))


@pytest.mark.parametrize("policy", sorted(BUILTIN))
def test_nothing_starves_while_more_urgent_work_never_ends(policy: str) -> None:
    queue = a_queue(policy)
    an_arm(queue.arms, slots=1)
    poor = a_task("poor", tier=1, priority=10, tenant="z", labels={"session": "z"})
    queue.add(poor, now=NOW)

    now, cycles = NOW, 0
    while queue.get("poor") is not None:
        now, cycles = now + 1.0, cycles + 1
        for kind in "ab":
            name = f"{kind}-{cycles:05}"
            urgent = a_task(name, queued_at=now, deadline=now + 60, priority=1, tenant=kind)
            queue.add(urgent, now=now)
        for it in placed(queue, now):
            queue.land(it.task.task_id, 1)

    assert cycles <= 1_200


@EXAMPLES
@given(
    weights=st.lists(st.integers(1, 5), min_size=2, max_size=5),
    rounds=st.integers(5, 60),
    seed=st.integers(0, 2**32),
)
def test_fair_shares_differ_by_no_more_than_a_task_of_each(
    weights: list[int], rounds: int, seed: int
) -> None:
    random = Random(seed)
    names = [f"tenant-{number}" for number in range(len(weights))]
    queue = a_queue("fair_share", weights=dict(zip(names, map(float, weights), strict=True)))
    an_arm(queue.arms, slots=1)
    for name in names:
        for number in range(rounds):
            labels = {"session": random.choice("xyz")}
            queue.add(a_task(f"{name}-{number:03}", tenant=name, labels=labels), now=NOW)

    served = dict.fromkeys(names, 0)
    for step in range(rounds):
        (decision,) = placed(queue, NOW + step * 0.01)
        queue.land(decision.task.task_id, 1)
        served[decision.task.tenant] += 1
        by_weight = [served[name] / weight for name, weight in zip(names, weights, strict=True)]
        bound = 2 * max(1 / weight for weight in weights)
        assert max(by_weight) - min(by_weight) <= bound
