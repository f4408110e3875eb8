"""How arms come and go, how several slots come together, and whose turn it is."""

import pytest

from octarm.policies.builtin import priority, weighted
from octarm.policies.builtin.policy import Builtin
from octarm.policies.queue.arm import Arm
from octarm.policies.queue.arms import Arms
from octarm.policies.queue.lanes import Blocker
from octarm.policies.queue.orders import Order
from octarm.policies.queue.queue import Queue, Rules
from octarm.policies.queue.ranking import FEW, Key
from octarm.policies.queue.shares import Accounts
from tests.support.waiting import NOW, a_queue, a_task, an_arm, pairs, placed


def test_a_task_that_waits_goes_to_an_arm_that_comes() -> None:
    queue = a_queue()
    queue.add(a_task("t", needs="code"), now=NOW)
    assert placed(queue) == []

    an_arm(queue.arms, "late", "code")

    assert pairs(placed(queue)) == [("t", "late")]


def test_learning_the_same_again_changes_nothing() -> None:
    queue = a_queue()
    arm = an_arm(queue.arms, "a")
    epoch, version = queue.arms.epoch, arm.version

    assert an_arm(queue.arms, "a") is arm

    assert (queue.arms.epoch, arm.version) == (epoch, version)


def test_an_arm_that_is_gone_gets_nothing_and_its_work_still_lands() -> None:
    queue = a_queue()
    an_arm(queue.arms, "a", slots=2)
    queue.add(a_task("runs"), now=NOW)
    assert len(placed(queue)) == 1
    queue.add(a_task("waits"), now=NOW)

    queue.arms.unlearn("a")
    queue.arms.unlearn("a")
    assert placed(queue) == []
    assert queue.land("runs", 1) is not None

    an_arm(queue.arms, "a", slots=1)
    assert pairs(placed(queue)) == [("waits", "a")]


def test_a_pause_ends_by_itself() -> None:
    queue = a_queue()
    arm = an_arm(queue.arms, "a")
    queue.add(a_task(), now=NOW)
    queue.arms.pause(arm, until=NOW + 3)

    assert placed(queue, NOW + 2) == []
    assert queue.next_timer() == NOW + 3
    assert len(placed(queue, NOW + 3)) == 1


def test_what_a_policy_sees_of_an_arm_is_what_it_may_use() -> None:
    queue = a_queue()
    arm = an_arm(queue.arms, "a", slots=3, load=0.5, latency_s=0.2, success=0.9)
    calling = an_arm(queue.arms, "b", slots=3, labels={"provider": "p"})
    queue.arms.stay_away(calling, 5.0, now=NOW)

    seen = arm.seen()

    assert (seen.free, seen.running, seen.load) == (3, 0, 0.5)
    assert (seen.avg_latency_ms, seen.success_rate) == (200.0, 0.9)
    assert calling.seen().free == 0


def test_degraded_arms_serve_while_no_other_does() -> None:
    queue = a_queue()
    an_arm(queue.arms, "weak", status="degraded")
    queue.add(a_task("t-1"), now=NOW)
    assert pairs(placed(queue)) == [("t-1", "weak")]
    queue.land("t-1", 1)

    an_arm(queue.arms, "sound")
    for number in (2, 3):
        queue.add(a_task(f"t-{number}"), now=NOW)

    assert pairs(placed(queue)) == [("t-2", "sound")]


def test_many_changes_at_once_are_read_whether_the_log_still_has_them_or_not() -> None:
    queue = a_queue()
    arms = [an_arm(queue.arms, f"a-{number:03}", slots=2) for number in range(60)]
    queue.add(a_task("t-0"), now=NOW)
    assert pairs(placed(queue)) == [("t-0", "a-000")]

    for arm in arms[:50]:
        queue.arms.report(arm, slots=0)
    queue.add(a_task("t-1"), now=NOW)
    assert pairs(placed(queue)) == [("t-1", "a-050")]
    for arm in arms[:30]:
        queue.arms.report(arm, slots=3)
    queue.add(a_task("t-1b"), now=NOW)
    assert pairs(placed(queue)) == [("t-1b", "a-001")]

    for turn in range(100):
        for arm in arms:
            queue.arms.report(arm, slots=1 if arm is arms[7] else 0, load=turn / 100)
    queue.add(a_task("t-2"), now=NOW)
    assert pairs(placed(queue)) == [("t-2", "a-007")]


def test_an_arm_is_liked_anew_only_when_it_has_changed_however_long_it_goes_on() -> None:
    liked: list[str] = []

    def prefer(arm: Arm) -> Key:
        liked.append(arm.facts.id)
        return float(arm.used), arm.facts.id

    counting = Builtin("counting", priority.rank, prefer, ("used",), fit=weighted.fit)
    queue = Queue(counting, Arms(prefer, fit=weighted.fit))
    for number in range(100):
        an_arm(queue.arms, f"a-{number:03}", "code", slots=2)

    for cycle in range(300):
        liked.clear()
        for number, needs in enumerate(["", "code"] * 10):
            queue.add(a_task(f"t-{cycle}-{number:02}", needs=needs), now=NOW)
        for it in placed(queue):
            queue.land(it.task.task_id, 1)

        assert len(liked) < 100 or not cycle


def test_groups_that_nobody_needs_let_go_of_their_arms() -> None:
    queue = a_queue()
    arm = an_arm(queue.arms, "a", "code")
    task = a_task(needs="code")
    queue.add(task, now=NOW)
    assert len(placed(queue)) == 1
    assert len(arm.groups) == 1

    assert queue.arms.groups.waiting() == []

    assert len(arm.groups) == 0


def test_several_slots_are_kept_together_for_a_task_that_has_waited_long() -> None:
    queue = a_queue(rules=Rules(patience_s=60))
    an_arm(queue.arms, "small", slots=1)
    large = an_arm(queue.arms, "large", slots=2)
    for number in range(3):
        queue.add(a_task(f"t-{number}"), now=NOW)
    assert len(placed(queue)) == 3
    queue.add(a_task("wide", slots=2), now=NOW)
    queue.add(a_task("wider", slots=3), now=NOW)
    assert placed(queue, NOW) == []

    assert placed(queue, NOW + 60) == []
    assert large.reserved is not None
    queue.land("t-0", 1)
    queue.add(a_task("narrow"), now=NOW + 60)
    assert large.seen().free == 0
    assert placed(queue, NOW + 61) == []
    queue.land("t-2", 1)

    assert pairs(placed(queue, NOW + 62)) == [("wide", "large")]
    assert large.reserved is None


def test_a_kept_arm_is_let_go_with_the_last_task_that_wanted_it() -> None:
    queue = a_queue(rules=Rules(patience_s=60))
    large = an_arm(queue.arms, "large", slots=2)
    queue.add(a_task("one"), now=NOW)
    assert len(placed(queue)) == 1
    wide, other = a_task("wide", slots=2), a_task("other", slots=2, needs="code")
    an_arm(queue.arms, "large", "code", slots=2)
    for task in (wide, other):
        queue.add(task, now=NOW)
    placed(queue, NOW)
    placed(queue, NOW + 60)
    assert large.reserved is not None
    reserved_for = large.reserved

    queue.remove(wide)
    queue.remove(other)

    assert large.reserved is None
    assert reserved_for.reserved is None


def test_idle_time_saves_nothing_up() -> None:
    queue = a_queue("fair_share")
    an_arm(queue.arms)
    for number in range(10):
        queue.add(a_task(f"a-{number}", tenant="a"), now=NOW)
    for _ in range(5):
        (decision,) = placed(queue)
        queue.land(decision.task.task_id, 1)
    for number in range(10):
        queue.add(a_task(f"b-{number}", tenant="b"), now=NOW)

    tenants = []
    for _ in range(6):
        (decision,) = placed(queue)
        queue.land(decision.task.task_id, 1)
        tenants.append(decision.task.tenant)

    assert sorted(tenants) == ["a", "a", "a", "b", "b", "b"]


def test_sessions_of_a_tenant_take_turns() -> None:
    queue = a_queue("fair_share")
    an_arm(queue.arms, slots=4)
    for name in ("x-1", "x-2", "x-3", "y-1"):
        queue.add(a_task(name, labels={"session": name[0]}), now=NOW)

    assert [task for task, _ in pairs(placed(queue))] == ["x-1", "y-1", "x-2", "x-3"]


def test_who_was_given_much_elsewhere_is_served_here_after_a_while() -> None:
    queue = a_queue("fair_share", rules=Rules(patience_s=60))
    an_arm(queue.arms, "big", "big", slots=300)
    an_arm(queue.arms, "small", "small", takes_any=False)
    for number in range(400):
        queue.add(a_task(f"poor-{number:03}", tenant="poor", needs="small"), now=NOW)
    for number in range(300):
        queue.add(a_task(f"rich-{number}", tenant="rich", needs="big"), now=NOW)
    assert len(placed(queue, window=400)) == 301
    queue.land("poor-000", 1)
    for number in range(2):
        queue.add(a_task(f"z-{number}", tenant="rich", needs="small"), now=NOW)

    served = []
    for second in range(140):
        for it in placed(queue, NOW + second):
            queue.land(it.task.task_id, 1)
            served.append(it.task.task_id)

    assert served.count("z-0") == 1
    assert served.index("z-0") == 60
    assert 118 <= served.index("z-1") <= 122


def test_accounts_of_those_who_are_gone_are_forgotten() -> None:
    accounts = Accounts()
    ahead = accounts.open("ahead", 1.0, 0.0)
    ahead.virtual = 10_000.0
    waits = accounts.open("waits", 1.0, 0.0)
    waits.waiting = 1

    for number in range(3_000):
        accounts.open(f"t-{number}", 1.0, float(number))

    assert accounts.open("ahead", 1.0, 0.0) is ahead
    assert accounts.open("waits", 1.0, 0.0) is waits
    assert len(accounts.by_name) < 1_200


def test_many_lanes_come_and_go_without_leaving_anything_behind() -> None:
    queue = a_queue("fair_share")
    an_arm(queue.arms, "a", "code", slots=1)
    tasks = [
        a_task(f"t-{n:04}", tenant=f"tenant-{n % 200}", needs="code", labels={"session": str(n)})
        for n in range(1_000)
    ]
    for task in tasks:
        queue.add(task, now=NOW)
    placed(queue)
    for task in tasks:
        if task.lane is not None:
            queue.remove(task)

    for task in tasks:
        if queue.flight(task.task_id, 1) is None:
            queue.add(task, now=NOW + 1)
    placed(queue, NOW + 1)

    assert len(queue.board.lanes()) == len(queue) == 999


def test_an_order_without_shares_needs_no_news_of_who_was_served() -> None:
    order = Order(fair=False, patience_s=60)

    assert order.first(NOW) is None
    assert order.lanes() == []


def test_a_blocker_says_itself_when_it_has_room() -> None:
    blocker = Blocker(Order(fair=False, patience_s=60))

    with pytest.raises(NotImplementedError):
        blocker.has_room(NOW)
    with pytest.raises(NotImplementedError):
        blocker.look_again_at(a_task(), 60, now=NOW)


def test_under_shares_whose_turn_it_is_has_to_be_looked_up() -> None:
    queue = a_queue("fair_share")
    task = a_task()
    queue.add(task, now=NOW)
    lane = task.lane
    assert lane is not None

    assert lane.order is not None
    assert not lane.order.holds_only(lane)


def test_what_one_group_learned_of_many_arms_serves_the_next() -> None:
    queue = a_queue()
    arms = [an_arm(queue.arms, f"arm-{number:02}", "x y") for number in range(2 * FEW)]
    for number in range(4 * FEW):
        for needs in ("x", "y"):
            queue.add(a_task(f"{number:02}-{needs}", needs=needs), now=NOW)
    first = placed(queue)

    for decision in first:
        queue.land(decision.task.task_id, 1)
    again = placed(queue)

    assert {it.arm for it in first} == {it.arm for it in again} == set(arms)
    assert {it.task.task_id[-1] for it in first + again} == {"x", "y"}
