"""What a scripted policy sees, what its actions do, and why tasks wait."""

from octarm.policies.actions import Action, Dispatch, Evict, Reject, Start, Wait
from octarm.policies.context import InstanceFacts, TenantLimits
from octarm.policies.queue.governors import ProviderLimits
from octarm.policies.queue.heard import Account, Heard
from octarm.policies.queue.holds import why_waiting
from octarm.policies.queue.limits import LimitRule
from octarm.policies.queue.queue import Queue
from octarm.policies.queue.window import apply, context, window
from tests.support.waiting import NOW, a_queue, a_task, an_arm, pairs, placed


def seen(queue: Queue, now: float = NOW, size: int = 256) -> list[str]:
    return [task.task_id for task in window(queue, now, size=size)]


def reason(queue: Queue, task_id: str = "t", now: float = NOW) -> tuple[str, str]:
    placed(queue, now)
    hold = why_waiting(queue, task_id, now=now)
    assert hold is not None
    return hold.kind, hold.reason


def test_a_window_has_what_could_be_placed_in_the_order_of_the_queue() -> None:
    queue = a_queue()
    an_arm(queue.arms, "a", "code")
    queue.add(a_task("batch", tier=1), now=NOW)
    queue.add(a_task("blocked", needs="draw"), now=NOW)
    queue.add(a_task("second", needs="code"), now=NOW)
    queue.add(a_task("first", priority=1), now=NOW)

    assert seen(queue) == ["first", "second", "batch"]
    assert seen(queue, size=1) == ["first"]


def test_a_tenant_fills_only_its_part_of_the_window() -> None:
    queue = a_queue("fair_share", weights={"other": 3.0})
    an_arm(queue.arms, slots=9)
    for number in range(20):
        queue.add(a_task(f"flood-{number:02}", tenant="flood"), now=NOW)
    for number in range(9):
        queue.add(a_task(f"other-{number}", tenant="other", priority=9), now=NOW)

    names = seen(queue, size=8)

    assert [name[:5] for name in names] == ["flood"] * 2 + ["other"] * 6
    assert len(seen(queue)) == 29


def test_everybody_who_waits_for_what_has_room_again_is_in_the_window() -> None:
    queue = a_queue("fair_share", limits=[LimitRule("r", "task.labels.r", rate_per_s=1, burst=1)])
    an_arm(queue.arms, "a", slots=1)
    for number in range(3):
        labels = {"r": "", "session": str(number)}
        queue.add(a_task(f"t-{number}", tenant=f"tenant-{number}", labels=labels), now=NOW)
    queue.add(a_task("slow-1", labels={"r": "x"}), now=NOW)
    queue.add(a_task("slow-2", labels={"r": "x", "session": "s"}), now=NOW)
    assert pairs(placed(queue)) == [("slow-1", "a")]
    assert seen(queue) == []

    queue.land("slow-1", 1)

    assert seen(queue) == ["t-0", "t-1", "t-2"]


def test_a_window_takes_the_batons_of_built_in_cycles() -> None:
    queue = a_queue(limits=[LimitRule("all", "'all'", concurrency=2)])
    an_arm(queue.arms, "a", "x y", slots=9)
    for number, needs in enumerate(("", "x", "y", "x y")):
        queue.add(a_task(f"t-{number}", needs=needs), now=NOW)
    assert len(placed(queue)) == 2
    queue.land("t-0", 1)
    queue.land("t-1", 1)
    queue.board.wake(NOW)

    assert seen(queue) == ["t-2", "t-3"]
    assert len(placed(queue)) == 2


def test_a_rate_that_is_used_up_is_looked_at_again() -> None:
    queue = a_queue(limits=[LimitRule("all", "'all'", rate_per_s=1, burst=1)])
    an_arm(queue.arms, "a", "x", slots=9)
    for number, needs in enumerate(("", "x")):
        queue.add(a_task(f"t-{number}", needs=needs), now=NOW)
    assert seen(queue) == ["t-0", "t-1"]
    apply(queue, [Dispatch("t-0", "a")], now=NOW)
    assert seen(queue) == []
    queue.land("t-0", 1)
    assert seen(queue) == []

    assert queue.next_timer() == NOW + 1
    queue.tick(NOW + 1)
    assert seen(queue, NOW + 1) == ["t-1"]
    apply(queue, [Dispatch("t-1", "a")], now=NOW + 1)
    last = a_task("t-2")
    queue.add(last, now=NOW + 1)
    assert seen(queue, NOW + 1) == []
    queue.land("t-1", 1)
    queue.remove(last)
    assert seen(queue, NOW + 1) == []


def test_a_context_shows_tenants_arms_and_metrics() -> None:
    queue = a_queue("fair_share", weights={"acme": 2.0})
    an_arm(queue.arms, "b", slots=2)
    an_arm(queue.arms, "a", slots=1, status="degraded")
    queue.add(a_task("t", tenant="acme", queued_at=NOW - 3), now=NOW)

    heard = Heard(accounts={"acme": Account(TenantLimits(running=5), 70, 9)})

    shown = context(queue, window(queue, NOW), now=NOW, cycle=7, heard=heard)

    assert [arm.id for arm in shown.arms] == ["a", "b"]
    assert shown.tenants["acme"].weight == 2.0
    assert shown.tenants["acme"].limits.running == 5
    assert (shown.tenants["acme"].spent_today, shown.tenants["acme"].tokens_today) == (70, 9)
    assert (shown.cycle, shown.now_ms) == (7, int(NOW * 1000))
    assert (shown.metrics.queue_depth_interactive, shown.metrics.oldest_wait_ms) == (1, 3_000)
    assert (shown.metrics.arms_online, shown.metrics.arms_degraded) == (1, 1)
    assert context(a_queue(), [], now=NOW).metrics.oldest_wait_ms == 0


def test_actions_take_effect_in_their_order() -> None:
    queue = a_queue()
    an_arm(queue.arms, "a", slots=5)
    for name in ("t-1", "t-2", "t-3"):
        queue.add(a_task(name), now=NOW)
    actions: list[Action] = [
        Dispatch("t-1", "a", "because", 0.5),
        Reject("t-2", "never"),
        Wait("later", retry_after_ms=500),
        Wait("sooner", retry_after_ms=200),
        Wait("some day"),
        Start("a"),
    ]

    done = apply(queue, actions, now=NOW)

    assert [(it.task.task_id, it.reason, it.score) for it in done.sent] == [("t-1", "because", 0.5)]
    assert [(task.task_id, why) for task, why in done.rejected] == [("t-2", "never")]
    assert done.retry_after_s == 0.2
    assert [task.task_id for task in queue] == ["t-3"]


def test_what_nobody_can_do_yet_is_dropped_and_says_so() -> None:
    queue = a_queue()
    an_arm(queue.arms, "a")
    queue.add(a_task("t-1"), now=NOW)

    done = apply(queue, [Start("a"), Dispatch("t-1", "a"), Evict("i-1")], now=NOW)

    assert [(it.kind, it.action) for it in done.dropped] == [
        ("unsupported", "Start(arm='a', reason='')"),
        ("unsupported", "Evict(instance='i-1', reason='')"),
    ]
    assert len(done.sent) == 1


def test_limits_and_headroom_are_looked_at_for_every_action() -> None:
    queue = a_queue(
        limits=[LimitRule("tenants", "task.tenant", concurrency=2)],
        providers=[ProviderLimits("p//", requests_per_minute=1)],
    )
    an_arm(queue.arms, "calls", slots=5, labels={"provider": "p"})
    an_arm(queue.arms, "own", slots=5)
    for name in ("t-1", "t-2", "t-3", "t-4"):
        queue.add(a_task(name), now=NOW)

    actions = [
        Dispatch("t-1", "calls"),
        Dispatch("t-2", "calls"),
        Dispatch("t-3", "own"),
        Dispatch("t-4", "own"),
    ]
    done = apply(queue, actions, now=NOW)

    assert [it.task.task_id for it in done.sent] == ["t-1", "t-3"]
    assert [(it.kind, it.task) for it in done.dropped] == [("headroom", "t-2"), ("limit", "t-4")]


def test_nothing_is_said_of_a_task_that_does_not_wait() -> None:
    assert why_waiting(a_queue(), "t", now=NOW) is None


def test_a_task_waits_for_arms_to_be_there_able_and_free() -> None:
    queue = a_queue()
    queue.add(a_task("t", needs="code", slots=2), now=NOW)

    assert reason(queue) == ("no_arm", "no arm is registered")
    an_arm(queue.arms, "a", "draw")
    assert reason(queue) == ("incapable", "no arm takes it that has code")
    an_arm(queue.arms, "b", "code", status="draining")
    assert reason(queue) == ("away", "every capable arm is offline or draining")
    silent = an_arm(queue.arms, "b", "code")
    queue.arms.report(silent, slots=0)
    assert reason(queue) == ("away", "no capable arm has a live instance that takes work")
    an_arm(queue.arms, "b", "code")
    too_large = "it needs 2 slots, the largest capable arm has 1 in one instance"
    assert reason(queue) == ("too_large", too_large)
    an_arm(queue.arms, "b", "code", slots=2)
    queue.add(a_task("first", needs="code"), now=NOW - 1)
    queue.fly(queue.get("first"), queue.arms.by_id["b"], now=NOW)  # type: ignore[arg-type]
    assert reason(queue) == ("full", "every capable arm is full")


def test_a_task_that_names_nothing_may_find_no_arm_that_takes_anything() -> None:
    queue = a_queue()
    an_arm(queue.arms, "a", "draw", takes_any=False)
    queue.add(a_task("t"), now=NOW)
    queue.add(a_task("pinned", needs="x", assigned_arm="a"), now=NOW)

    assert reason(queue) == (
        "incapable",
        "every arm wants its capabilities named: say what the task needs",
    )
    kind, why = reason(queue, "pinned")
    assert (kind, why) == ("incapable", "pinned to a: no arm takes it that has x")


def test_a_task_waits_for_headroom_until_a_time() -> None:
    queue = a_queue()
    arm = an_arm(queue.arms, "a", labels={"provider": "p"})
    queue.arms.stay_away(arm, 9.0, now=NOW)
    queue.add(a_task("t"), now=NOW)

    assert reason(queue) == ("headroom", "provider p// is out of headroom until 00:16:49 UTC")
    hold = why_waiting(queue, "t", now=NOW)
    assert hold is not None
    assert (hold.again_at, hold.arms) == (
        NOW + 9,
        {"a": "its provider p// is out of headroom"},
    )


def test_a_task_waits_within_its_limits_and_for_its_turn() -> None:
    rules = [
        LimitRule("runs", "task.tenant", concurrency=1),
        LimitRule("starts", "task.tenant", rate_per_s=0.5, burst=1),
    ]
    queue = a_queue(limits=rules)
    an_arm(queue.arms, "a", slots=9)
    for name in ("s", "t"):
        queue.add(a_task(name), now=NOW)

    assert reason(queue) == ("concurrency", "limit runs of default: 1 of 1 run")
    queue.land("s", 1)
    assert reason(queue) == ("rate", "limit starts of default: 0.5 a second")
    hold = why_waiting(queue, "t", now=NOW + 5)
    assert hold is not None
    assert (hold.kind, hold.position, hold.arms) == ("turn", 0, {"a": "has room"})


def test_what_was_heard_is_seen() -> None:
    queue = a_queue()
    an_arm(queue.arms, "a")
    queue.add(a_task("t", queued_at=NOW - 4), now=NOW)
    queue.add(a_task("u", queued_at=NOW - 2), now=NOW)
    instance = InstanceFacts("a-1", runs=3)
    told = Heard({"a": (instance,)}, {"a": 250}, placed=5, completed=4, failed=1)

    seen = context(queue, window(queue, NOW), now=NOW, heard=told)

    (arm,) = seen.arms
    assert (arm.instances, arm.heartbeat_age_ms) == ((instance,), 250)
    metrics = seen.metrics
    assert (metrics.placed_last_minute, metrics.completed_last_minute) == (5, 4)
    assert (metrics.failed_last_minute, metrics.avg_wait_ms) == (1, 3000.0)


def test_the_average_wait_is_looked_at_once_a_second() -> None:
    queue = a_queue()
    assert queue.average_wait_s(NOW) == 0.0
    queue.add(a_task("t", queued_at=NOW - 4), now=NOW)

    assert queue.average_wait_s(NOW) == 4.0
    assert queue.average_wait_s(NOW + 0.9) == 4.0
    assert queue.average_wait_s(NOW + 1) == 5.0
    # A clock that was set back.
    assert queue.average_wait_s(NOW) == 4.0
