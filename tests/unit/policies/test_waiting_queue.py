"""What waits: admission, promotion, deadlines, another policy."""

import pytest

from octarm.policies.builtin import BUILTIN
from octarm.policies.queue.admission import Admitted, Refused, admit, admit_accepted
from octarm.policies.queue.heaps import LazyHeap
from octarm.policies.queue.limits import LimitRule
from octarm.policies.queue.queue import FullPolicy, Queue, Rules
from tests.support.waiting import NOW, a_queue, a_task, an_arm, pairs, placed


def full(policy: FullPolicy, *tiers: int) -> Queue:
    """A full queue with tasks `t-0` … of these tiers, the later ones less urgent."""
    queue = a_queue(rules=Rules(capacity=len(tiers), full=policy))
    for number, tier in enumerate(tiers):
        task = a_task(f"t-{number}", tier=tier, queued_at=NOW + number)
        assert admit(queue, task, now=NOW) == Admitted()
    return queue


def test_a_full_queue_rejects() -> None:
    queue = full("reject", 1, 0)

    assert isinstance(admit(queue, a_task("new"), now=NOW), Refused)
    assert queue.get("new") is None


def test_drop_lru_drops_the_batch_task_that_came_first() -> None:
    queue = full("drop_lru", 0, 1, 1)
    oldest = queue.get("t-1")

    admitted = admit(queue, a_task("new", tier=1), now=NOW)

    reason = "3 tasks wait, as many as may; batch work makes room for what came later"
    assert admitted == Admitted(oldest, reason)
    assert [task.task_id for task in queue] == ["t-0", "t-2", "new"]


def test_shed_batch_refuses_batch_and_drops_the_least_urgent_for_interactive_work() -> None:
    queue = full("shed_batch", 0, 1, 1)
    least = queue.get("t-2")

    assert isinstance(admit(queue, a_task("batch", tier=1), now=NOW), Refused)
    admitted = admit(queue, a_task("new"), now=NOW)
    assert isinstance(admitted, Admitted)
    assert admitted.dropped is least


@pytest.mark.parametrize("policy", ["drop_lru", "shed_batch"])
def test_without_batch_work_a_full_queue_refuses(policy: FullPolicy) -> None:
    refused = admit(full(policy, 0, 0), a_task("new"), now=NOW)

    assert refused == Refused("2 tasks wait, as many as may, none of them of the batch tier")


@pytest.mark.parametrize("policy", ["reject", "drop_lru", "shed_batch"])
def test_an_accepted_interactive_task_waits_beyond_the_capacity(policy: FullPolicy) -> None:
    queue = full(policy, 0, 0)

    assert admit_accepted(queue, a_task("new"), now=NOW) == Admitted()
    assert len(queue) == 3


def test_accepted_batch_work_is_dropped_by_the_full_policy_alone() -> None:
    policies: list[FullPolicy] = ["reject", "drop_lru", "shed_batch"]
    queues = {policy: full(policy, 0, 1) for policy in policies}
    dropped = {
        policy: admit_accepted(queue, a_task("new", tier=1), now=NOW).dropped
        for policy, queue in queues.items()
    }

    assert dropped["reject"] is None
    assert dropped["drop_lru"] is not None
    assert dropped["drop_lru"].task_id == "t-1"
    assert dropped["shed_batch"] is not None
    assert dropped["shed_batch"].task_id == "new"
    assert [len(queue) for queue in queues.values()] == [3, 2, 2]


@pytest.mark.parametrize("policy", ["reject", "shed_batch"])
def test_batch_work_is_promoted_and_then_safe(policy: FullPolicy) -> None:
    queue = a_queue(rules=Rules(capacity=2, full=policy, promote_after_s=300))
    queue.add(a_task("old", tier=1), now=NOW)
    queue.add(a_task("young", tier=1, queued_at=NOW + 100), now=NOW)

    assert queue.next_timer() == NOW + 300
    assert queue.tick(NOW + 300) == []

    assert queue.depth == [1, 1]
    old = queue.get("old")
    assert old is not None
    assert (old.tier, old.promoted) == (0, True)
    assert queue.next_timer() == NOW + 400


def test_a_task_whose_deadline_passes_is_taken_out() -> None:
    queue = a_queue()
    queue.add(a_task("due", deadline=NOW + 5), now=NOW)
    queue.add(a_task("later", deadline=NOW + 50), now=NOW)

    assert queue.next_timer() == NOW + 5
    assert [task.task_id for task in queue.tick(NOW + 5)] == ["due"]
    assert [task.task_id for task in queue] == ["later"]


def test_an_empty_queue_has_no_timer() -> None:
    assert a_queue().next_timer() is None


def test_what_is_in_flight_holds_its_slot_until_it_lands() -> None:
    queue = a_queue()
    an_arm(queue.arms)
    for name in ("a", "b"):
        queue.add(a_task(name), now=NOW)

    assert pairs(placed(queue)) == [("a", "a-1")]
    assert queue.running == {"default": 1}
    assert queue.flight("a", 1) is not None
    assert queue.flight("a", 2) is None
    assert placed(queue) == []

    assert queue.land("a", 1) is not None
    assert queue.land("a", 1) is None
    assert pairs(placed(queue)) == [("b", "a-1")]


def test_another_policy_orders_what_waits_anew() -> None:
    queue = a_queue("fifo", limits=[LimitRule("all", "'all'", concurrency=9)])
    an_arm(queue.arms, slots=9)
    for number, tenant in enumerate("aaab"):
        task = a_task(f"t-{number}", tenant=tenant, priority=9 - number, queued_at=NOW + number)
        queue.add(task, now=NOW)

    queue.use(BUILTIN["fair_share"], now=NOW)

    assert [task for task, _ in pairs(placed(queue))] == ["t-2", "t-3", "t-1", "t-0"]
    assert queue.policy.name == "fair_share"


def test_a_policy_by_needs_follows_one_that_is_not() -> None:
    queue = a_queue()
    an_arm(queue.arms, "all", "code draw")
    an_arm(queue.arms, "special", "code")
    queue.add(a_task("x", needs="code"), now=NOW)
    assert pairs(placed(queue)) == [("x", "all")]
    queue.land("x", 1)
    queue.add(a_task("y", needs="code"), now=NOW)

    queue.use(BUILTIN["weighted"], now=NOW)

    assert pairs(placed(queue)) == [("y", "special")]


def test_a_heap_walks_in_order_without_losing_anything_and_forgets_the_dead() -> None:
    heap = LazyHeap()
    queue = a_queue()
    tasks = [a_task(f"t-{number:03}") for number in range(200)]
    for number, task in enumerate(tasks):
        queue.add(task, now=NOW)
        heap.push(-number, task)

    for task in tasks[:150]:
        queue.remove(task)
        heap.forget()
    heap.push(1.0, tasks[199])

    assert next(heap.walk()) is tasks[199]
    assert len(list(heap.walk())) == 51
    assert heap.live == 51

    queue.remove(tasks[160])
    heap.forget()

    assert tasks[160] not in list(heap.walk())
    assert len(list(heap.walk())) == heap.live == 50
    assert list(LazyHeap().walk()) == []


def test_facts_of_a_task_are_what_policies_see() -> None:
    task = a_task("t", deadline=NOW + 1, est_s=0.5, labels={"session": "s"}, slots=2, tier=1)

    facts = task.facts(NOW + 2)

    assert (facts.session, facts.tier, facts.wait_ms) == ("s", "batch", 2_000)
    assert (facts.deadline_ms, facts.est_ms, facts.slots) == (int((NOW + 1) * 1000), 500, 2)
