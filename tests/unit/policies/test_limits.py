"""Limits by key, quotas of tenants, headroom of providers."""

import pytest

from octarm.policies.queue.buckets import Bucket
from octarm.policies.queue.governors import Governor, ProviderLimits, Providers, provider_key
from octarm.policies.queue.limits import UNSAID, BadExpression, LimitRule, Limits, compiled
from octarm.policies.queue.orders import Order
from tests.support.waiting import NOW, a_queue, a_task, an_arm, pairs, placed

BY_CUSTOMER = "has(task.labels.customer) ? task.labels.customer : ''"
CALLS = {"provider": "openai", "model": "small"}


def an_order() -> Order:
    return Order(fair=False, patience_s=60)


def names(queue_task_pairs: list[tuple[str, str]]) -> list[str]:
    return [task for task, _ in queue_task_pairs]


def test_a_key_may_run_only_so_many_at_once_and_others_do_not_wait_for_it() -> None:
    queue = a_queue(limits=[LimitRule("customers", BY_CUSTOMER, concurrency=1)])
    an_arm(queue.arms, slots=9)
    for name, customer in (("t-1", "x"), ("t-2", "x"), ("t-3", "y"), ("t-4", "")):
        queue.add(a_task(name, labels={"customer": customer} if customer else {}), now=NOW)

    assert names(pairs(placed(queue))) == ["t-1", "t-3", "t-4"]
    queue.land("t-3", 1)
    assert placed(queue) == []
    queue.land("t-1", 1)
    assert names(pairs(placed(queue))) == ["t-2"]


def test_a_key_may_start_only_so_often() -> None:
    queue = a_queue(limits=[LimitRule("tenants", "task.tenant", rate_per_s=2, burst=1)])
    an_arm(queue.arms, slots=9)
    for number in range(3):
        queue.add(a_task(f"t-{number}"), now=NOW)

    assert len(placed(queue, NOW)) == 1
    assert queue.next_timer() == NOW + 0.5
    assert len(placed(queue, NOW + 0.4)) == 0
    assert len(placed(queue, NOW + 0.5)) == 1
    assert len(placed(queue, NOW + 1.0)) == 1


def test_lanes_that_sleep_at_a_rate_go_on_when_the_first_of_them_is_empty() -> None:
    queue = a_queue(limits=[LimitRule("all", "'all'", rate_per_s=1, burst=1)])
    an_arm(queue.arms, "a-1", "x y", slots=9)
    for number, needs in enumerate(("", "x", "y")):
        queue.add(a_task(f"t-{number}", needs=needs), now=NOW)

    placed_at = []
    while len(queue):
        now = max(queue.next_timer() or NOW, NOW)
        placed_at += [now for _ in placed(queue, now)]

    assert placed_at == [NOW, NOW + 1, NOW + 2]


def test_a_tenant_runs_no_more_than_its_quota() -> None:
    limits = Limits(running={"acme": 1})

    (quota,) = limits.of(a_task(tenant="acme"), an_order, now=NOW)

    assert quota.rule.concurrency == 1
    assert limits.of(a_task(tenant="other"), an_order, now=NOW) == ()


def test_tasks_whose_key_cannot_be_said_are_limited_together() -> None:
    limits = Limits([LimitRule("customers", "task.labels.customer", concurrency=1)])

    (limit,) = limits.of(a_task(), an_order, now=NOW)

    assert limit.key == UNSAID


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("task.", "parse"),
        ("user.name", "only `task` is known, not user"),
        ("string(task.needs.exists(task, task == 'x'))", "may not walk"),
        (f"'{'x' * 300}'", "longer than 256"),
    ],
)
def test_a_key_that_is_wrong_or_slow_is_refused(expression: str, why: str) -> None:
    with pytest.raises(BadExpression, match=why):
        compiled(expression)


def test_a_key_need_not_be_text() -> None:
    assert compiled("task.priority")({"task": {"priority": 3}}) == "3"


def test_limits_that_nobody_uses_are_forgotten() -> None:
    limits = Limits([LimitRule("one", "task.tenant", concurrency=1)])
    order = an_order
    (busy,) = limits.of(a_task(tenant="busy"), order, now=NOW)
    busy.take(NOW)
    for number in range(2_000):
        limits.of(a_task(tenant=f"t-{number}"), order, now=NOW)

    (same,) = limits.of(a_task(tenant="busy"), order, now=NOW)

    assert same is busy
    assert len(limits) < 1_100


def test_a_bucket_fills_up_to_its_burst_and_a_step_back_fills_nothing() -> None:
    bucket = Bucket(2.0, 4.0, now=NOW)

    bucket.take(5.0, NOW)

    assert bucket.level(NOW - 100) == -1.0
    assert bucket.ready_at(1.0, NOW) == NOW + 1.0
    assert bucket.ready_at(100.0, NOW) == NOW + 2.5
    assert bucket.level(NOW + 100) == 4.0


def test_a_provider_key_is_made_of_labels() -> None:
    assert provider_key({}) == ""
    assert provider_key(CALLS) == "openai//small"


def test_arms_of_one_provider_share_its_requests() -> None:
    queue = a_queue(providers=[ProviderLimits("openai//small", requests_per_minute=2)])
    an_arm(queue.arms, "a", slots=5, labels=CALLS)
    an_arm(queue.arms, "b", slots=5, labels=CALLS)
    an_arm(queue.arms, "own", slots=1)
    for number in range(5):
        queue.add(a_task(f"t-{number}"), now=NOW)

    arms = [arm for _, arm in pairs(placed(queue))]

    assert sorted(arms) == ["a", "b", "own"]
    assert placed(queue, NOW + 10) == []
    assert queue.next_timer() == pytest.approx(NOW + 30)
    assert len(placed(queue, NOW + 30)) == 1


def test_tokens_of_a_provider_are_held_back_for_a_typical_task() -> None:
    governor = Governor(ProviderLimits("p", tokens_per_minute=600), now=NOW)

    governor.take(400, NOW)
    assert not governor.open
    assert governor.opens_at(NOW) == NOW + 20
    governor.settle(400, 100, NOW)
    assert governor.opens_at(NOW) == NOW
    governor.open = True
    governor.take(0, NOW)
    governor.settle(0, 600, NOW)
    assert not governor.open


def test_settling_means_nothing_without_a_limit_of_tokens() -> None:
    governor = Governor(ProviderLimits("p"), now=NOW)

    governor.take(400, NOW)
    governor.settle(400, 100, NOW)

    assert governor.open


def test_retry_after_holds_for_every_arm_of_the_provider() -> None:
    queue = a_queue()
    calling = an_arm(queue.arms, "a", slots=5, labels=CALLS)
    an_arm(queue.arms, "b", slots=5, labels=CALLS)
    queue.add(a_task("t"), now=NOW)

    queue.arms.stay_away(calling, 7.0, now=NOW)

    assert placed(queue, NOW + 6) == []
    assert queue.next_timer() == NOW + 7
    assert len(placed(queue, NOW + 7)) == 1


def test_retry_after_of_an_arm_without_a_provider_pauses_that_arm() -> None:
    queue = a_queue()
    arm = an_arm(queue.arms, "a")
    queue.arms.stay_away(arm, 7.0, now=NOW)
    queue.add(a_task("t"), now=NOW)

    assert placed(queue, NOW + 6) == []
    assert queue.next_timer() == NOW + 7
    assert len(placed(queue, NOW + 7)) == 1


def test_what_was_used_in_the_end_is_settled_with_the_provider() -> None:
    queue = a_queue(providers=[ProviderLimits("openai//small", tokens_per_minute=600)])
    calling = an_arm(queue.arms, "a", slots=5, labels=CALLS)
    own = an_arm(queue.arms, "own", slots=5)

    queue.arms.settle(calling, thought=0, used=700, now=NOW)
    queue.arms.settle(own, thought=0, used=700, now=NOW)

    assert calling.governor is not None
    assert not calling.governor.open
    assert own.governor is None


def test_a_provider_that_is_closed_again_when_looked_at_stays_closed() -> None:
    providers = Providers([ProviderLimits("p", requests_per_minute=60)])
    governor = providers.governor("p", NOW)
    assert governor is not None
    assert providers.governor("", NOW) is None
    for _ in range(61):
        governor.take(0, NOW)
    providers.watch(governor, NOW)
    governor.stay_away(100.0, NOW)

    assert providers.resume(NOW + 2) == []
    assert providers.next_timer() == NOW + 100
    assert providers.resume(NOW + 100) == [governor]
    assert providers.next_timer() is None
