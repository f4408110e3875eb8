"""One row (or more) for every helper: the call as a policy would write it, and what it gives."""

import json
from typing import Any

import msgspec
import pytest

from octarm.policies.context import (
    ArmFacts,
    Config,
    Context,
    InstanceFacts,
    Observed,
    TaskFacts,
    TenantFacts,
    TenantLimits,
)
from octarm.policies.language.catalog import helpers
from octarm.policies.language.evaluator import Evaluator

NOW = 1_000_000
EVALUATOR = Evaluator()


def caps(*tags: str) -> frozenset[str]:
    return frozenset(tags)


A = ArmFacts(
    "a",
    capabilities=caps("code", "llm/small"),
    cost_tier=3,
    slots=6,
    free=3,
    running=2,
    avg_latency_ms=200.0,
    success_rate=0.8,
    labels={"region": "eu"},
    instances=(
        InstanceFacts("a-1", slots=2, running=2, last_used_at=90, runs=9),
        InstanceFacts("a-2", slots=2, last_used_at=10, runs=5),
        InstanceFacts("a-3", slots=2, last_used_at=20, runs=1),
    ),
)
B = ArmFacts(
    "b",
    capabilities=caps("code"),
    cost_tier=1,
    slots=4,
    free=1,
    running=3,
    avg_latency_ms=900.0,
    success_rate=0.9,
    observed={"": Observed(ms=50, cost=9, success=0.5, runs=4), "gpu": Observed(success=0.0)},
    labels={"region": "us"},
)
C = ArmFacts("c", status="degraded", capabilities=caps("code", "llm/large"), slots=2, free=2)
D = ArmFacts("d", status="offline", capabilities=caps("gpu"), takes_any=False)
T1 = TaskFacts(
    "t1",
    tenant="acme",
    session="s",
    priority=1,
    needs=caps("code"),
    queued_at=NOW - 500,
    est_ms=300,
    est_cost=40,
)
T2 = TaskFacts(
    "t2",
    tenant="acme",
    tier="batch",
    queued_at=0,
    deadline_ms=NOW + 50,
    est_ms=100,
    slots=2,
)
T3 = TaskFacts("t3", tenant="beta", priority=3, needs=caps("gpu"), queued_at=NOW)
TENANTS = {
    "acme": TenantFacts(
        "acme",
        weight=2.0,
        running=3,
        limits=TenantLimits(running=4, cost_per_day=100),
        spent_today=30,
        tokens_today=7,
    ),
    "full": TenantFacts("full", running=1, limits=TenantLimits(running=1)),
}
CONFIG = Config(ageing_ms=300_000)
CONTEXT = Context(NOW, (T1, T2, T3), (A, B, C, D), tenants=TENANTS, config=CONFIG, cycle=1)
TEXT = msgspec.json.encode(CONTEXT, order="deterministic").decode()

HEAD = """
def schedule(ctx):
    t1, t2, t3 = ctx.queue
    a, b, c, d = ctx.arms
    plan = new_plan(ctx)
    def ids(items): return [item.id for item in items]
    def id(item): return item.id if item else None
    def has(*tags): return ids(find_arms_by_capability(ctx, *tags))
    def labelled(*args): return ids(find_arms_with_label(ctx, *args))
    def over(plan): return tenant_over_quota(ctx, 'acme', plan)
    def left(plan): return remaining_quota(ctx, 'acme', plan)
    def taken(expression): return [expression, plan.free, plan.running, plan.cost]
    return [%s]
"""

ROWS: list[tuple[str, str, Any]] = [
    (
        "dispatch",
        "dispatch('t1', a, 'why', 0.5)",
        {"action": "dispatch", "task": "t1", "arm": "a", "reason": "why", "score": 0.5},
    ),
    (
        "wait",
        "wait('full', 100, t1)",
        {"action": "wait", "reason": "full", "retry_after_ms": 100, "task": "t1"},
    ),
    ("evict", "evict(a.instances[1])", {"action": "evict", "instance": "a-2", "reason": ""}),
    ("start", "start(a, 'more')", {"action": "start", "arm": "a", "reason": "more"}),
    ("reject", "reject(t1)", {"action": "reject", "task": "t1", "reason": ""}),
    ("new_plan", "plan.free", {"a": 3, "b": 1, "c": 2, "d": 1}),
    (
        "place",
        "taken(place(plan, t2, a).arm)",
        ["a", {"a": 1, "b": 1, "c": 2, "d": 1}, {"acme": 1}, {"acme": 0}],
    ),
    ("room_on", "[room_on(a), place(plan, t2, a) and room_on(a, plan)]", [3, 1]),
    ("room_for", "[room_for(t1, a), room_for(t2, a), room_for(t2, b)]", [3, 3, 1]),
    ("get_task", "[id(get_task(ctx, 't2')), get_task(ctx, 'x')]", ["t2", None]),
    ("filter_tasks", "ids(filter_tasks(ctx, lambda task: task.tenant == 'acme'))", ["t1", "t2"]),
    ("get_arm", "[id(get_arm(ctx, 'b')), get_arm(ctx, 'x')]", ["b", None]),
    ("filter_arms", "ids(filter_arms(ctx, lambda arm: arm.free > 1))", ["a", "c"]),
    (
        "all_instances",
        "[it.arm + ' ' + it.id for it in all_instances(ctx)]",
        ["a a-1", "a a-2", "a a-3"],
    ),
    (
        "get_instance",
        "[id(get_instance(ctx, 'a-2')), get_instance(ctx, 'x')]",
        ["a-2", None],
    ),
    (
        "find_arms_by_capability",
        "[has('code', 'llm/small'), has('x')]",
        [["a"], []],
    ),
    (
        "find_arms_with_label",
        "[labelled('region'), labelled('region', 'us')]",
        [["a", "b"], ["b"]],
    ),
    ("find_arms_with_room", "ids(find_arms_with_room(ctx, 2))", ["a", "c"]),
    ("list_capabilities", "list_capabilities(ctx)", ["code", "gpu", "llm/large", "llm/small"]),
    (
        "get_capability",
        "[get_capability(ctx, 'code'), get_capability(ctx, 'x')]",
        [
            {"tag": "code", "arms": 3, "online": 2, "slots": 12, "free": 6, "cheapest_tier": 1},
            None,
        ],
    ),
    (
        "capability_exists",
        "[capability_exists(ctx, 'gpu'), capability_exists(ctx, 'x')]",
        [True, False],
    ),
    (
        "find_capabilities_by_prefix",
        "find_capabilities_by_prefix(ctx, 'llm/')",
        ["llm/large", "llm/small"],
    ),
    (
        "eligible_arms",
        "[ids(eligible_arms(ctx, t)) for t in ctx.queue]",
        [["a", "b"], ["a", "b"], []],
    ),
    ("eligible_arms", "ids(eligible_arms(ctx, t1, lambda arm: arm.cost_tier > 1))", ["a"]),
    (
        "check_compatibility",
        "[check_compatibility(ctx, t1, a), check_compatibility(ctx, t1, d).reason]",
        [{"ok": True, "reason": ""}, "d lacks code"],
    ),
    (
        "check_compatibility",
        "[check_compatibility(ctx, t3, d).reason, check_compatibility(ctx, t2, d).reason]",
        ["d is offline", "d wants one of its capabilities, or itself, named"],
    ),
    (
        "can_task_fit",
        "[can_task_fit(ctx, t2, it).reason for it in (a, b, d)]",
        [
            "",
            "b has 1 slots free, 2 are wanted",
            "d wants one of its capabilities, or itself, named",
        ],
    ),
    ("best_arm", "id(best_arm(ctx, t1, lambda arm: arm.avg_latency_ms))", "a"),
    ("best_arm", "best_arm(ctx, t3, lambda arm: 0)", None),
    ("find_ready_arm", "[id(find_ready_arm(ctx, t)) for t in ctx.queue]", ["a", "a", None]),
    ("find_least_loaded_arm", "id(find_least_loaded_arm(ctx, t1))", "a"),
    ("find_most_free_arm", "id(find_most_free_arm(ctx, t1))", "a"),
    ("find_cheapest_arm", "[id(find_cheapest_arm(ctx, t)) for t in ctx.queue]", ["b", "a", None]),
    ("find_fastest_arm", "id(find_fastest_arm(ctx, t1))", "a"),
    ("find_most_reliable_arm", "id(find_most_reliable_arm(ctx, t1))", "b"),
    (
        "find_arm_round_robin",
        "[id(find_arm_round_robin(ctx, t1, turn = n)) for n in range(3)]",
        ["a", "b", "a"],
    ),
    (
        "find_arm_round_robin",
        "[id(find_arm_round_robin(ctx, t)) for t in (t1, t2, t3)]",
        ["b", "a", None],
    ),
    ("find_affine_arm", "id(find_affine_arm(ctx, t1)) == id(find_affine_arm(ctx, t1, plan))", True),
    ("is_arm_healthy", "[is_arm_healthy(it) for it in ctx.arms]", [True, True, False, False]),
    ("arm_utilization", "[arm_utilization(a), arm_utilization(b)]", [0.5, 0.75]),
    (
        "estimate_performance",
        "[estimate_performance(t1, a), estimate_performance(t1, b)]",
        [375.0, 1000.0],
    ),
    ("wait_time", "[wait_time(ctx, t) for t in ctx.queue]", [500, NOW, 0]),
    (
        "estimate_task_duration",
        "[estimate_task_duration(t1), estimate_task_duration(t1, b)]",
        [300.0, 900.0],
    ),
    (
        "estimate_task_cost",
        "[estimate_task_cost(t1, a), estimate_task_cost(t2), estimate_task_cost(t2, a)]",
        [40, 0, 75000],
    ),
    (
        "observed",
        "[observed(t2, b).ms, observed(t2, b).cost, observed(t1, b), observed(t3, b)]",
        [50, 9, None, None],
    ),
    (
        "observed",
        "[estimate_task_duration(t2, b), estimate_task_cost(t2, b), estimate_performance(t2, b)]",
        [50.0, 9, 100.0],
    ),
    ("task_slots", "[task_slots(t1), task_slots(t2)]", [1, 2]),
    (
        "task_rank",
        "[task_rank(ctx, t1)[0], task_rank(ctx, t2)[0], task_rank(ctx, t1) < task_rank(ctx, t3)]",
        [0, 0, True],
    ),
    (
        "task_priority_score",
        "[task_priority_score(ctx, t3), task_priority_score(ctx, t2)]",
        [75.0, 40.0],
    ),
    ("slack", "[slack(ctx, t1), slack(ctx, t2)]", [None, -50]),
    ("is_late", "[is_late(ctx, t1), is_late(ctx, t2)]", [False, True]),
    ("order_by_priority", "ids(order_by_priority(ctx))", ["t1", "t2", "t3"]),
    ("order_by_priority", "ids(order_by_priority(ctx, [t3, t1]))", ["t1", "t3"]),
    ("order_by_deadline", "ids(order_by_deadline(ctx))", ["t2", "t1", "t3"]),
    ("order_fairly", "ids(order_fairly(ctx))", ["t3", "t1", "t2"]),
    (
        "get_tenant",
        "[get_tenant(ctx, 'acme').weight, get_tenant(ctx, 'x').limits.running]",
        [2.0, None],
    ),
    (
        "get_tenant_usage",
        "get_tenant_usage(ctx, 'acme')",
        {"running": 3, "waiting": 2, "spent_today": 30, "tokens_today": 7},
    ),
    (
        "check_tenant_quota",
        "[check_tenant_quota(ctx, 'acme').allowed, check_tenant_quota(ctx, 'full').reason]",
        [True, "full has used up its running"],
    ),
    (
        "tenant_over_quota",
        "[over(None), over(plan), place(plan, t1, a) and over(plan)]",
        [False, False, True],
    ),
    (
        "remaining_quota",
        "[left(None), place(plan, t1, a) and left(plan).cost]",
        [{"running": 1, "cost": 70, "tokens": None}, 30],
    ),
    ("estimate_quota_impact", "estimate_quota_impact(ctx, t1)", {"running": 0.25, "cost": 0.4}),
    ("estimate_quota_impact", "estimate_quota_impact(ctx, t3)", {"running": 0.0, "cost": 0.0}),
    (
        "find_instance_to_evict_lru",
        "[id(find_instance_to_evict_lru(ctx)), find_instance_to_evict_lru(ctx, b)]",
        ["a-2", None],
    ),
    ("find_instance_to_evict_lfu", "id(find_instance_to_evict_lfu(ctx, a))", "a-3"),
    (
        "should_evict",
        "[should_evict(ctx, a), should_evict(ctx, b)]",
        [{"needed": True, "excess": 1}, {"needed": False, "excess": 0}],
    ),
    ("find_arm_to_shrink", "id(find_arm_to_shrink(ctx))", "a"),
    ("now", "now(ctx)", NOW),
    ("elapsed_since", "[elapsed_since(ctx, 0), elapsed_since(ctx, 2000000)]", [NOW, 0]),
    ("average", "[average([1, 2, 6]), average([]), average([], 5)]", [3.0, 0.0, 5]),
    ("total", "[total([1, 2.5]), total([])]", [3.5, 0]),
    (
        "percentile",
        "[percentile(list(range(1, 101)), 0.95), percentile([3, 1, 2], 0.5), percentile([], 0.5)]",
        [95, 2, None],
    ),
    ("percentile", "[percentile([3, 1, 2], 0), percentile([3, 1, 2], 1)]", [1, 3]),
    ("clamp", "[clamp(5, 1, 3), clamp(0, 1, 3), clamp(2, 1, 3)]", [3, 1, 2]),
    ("min_by", "[min_by([3, 1, 2], lambda n: n % 3), min_by([], len)]", [3, None]),
    ("max_by", "[max_by(['a', 'ccc', 'bbb'], len), max_by([], len)]", ["ccc", None]),
    ("first", "[first([1, 2]), first([1, 2], lambda n: n > 1), first([])]", [1, 2, None]),
    (
        "group_by",
        "group_by(['a', 'bb', 'c'], lambda s: str(len(s)))",
        {"1": ["a", "c"], "2": ["bb"]},
    ),
    ("count_by", "count_by(['a', 'bb', 'c'], lambda s: str(len(s)))", {"1": 2, "2": 1}),
    (
        "string_contains",
        "[string_contains('abc', 'b'), string_contains('abc', 'x')]",
        [True, False],
    ),
    (
        "string_starts_with",
        "[string_starts_with('abc', 'a'), string_starts_with('abc', 'b')]",
        [True, False],
    ),
    (
        "platform_schedule",
        "[(it.task, it.arm) for it in platform_schedule(ctx)]",
        [["t1", "a"]],
    ),
    (
        "get_platform_scheduler_source",
        "get_platform_scheduler_source().startswith('def schedule(ctx):')",
        True,
    ),
]
SAID: list[tuple[str, str, list[str]]] = [
    ("print", "print('a', 1, sep = '-')", ["a-1"]),
    ("log_debug", "log_debug('a', t1.id)", ["debug: a t1"]),
    ("log_info", "log_info('a')", ["info: a"]),
    ("log_warn", "log_warn('a')", ["warning: a"]),
    ("log_error", "log_error('a')", ["error: a"]),
]


def value_of(expression: str, text: str = TEXT) -> Any:
    policy = EVALUATOR.compile(HEAD % expression)
    return json.loads(EVALUATOR.decide(policy, EVALUATOR.context(text)))[0]


@pytest.mark.parametrize(("helper", "call", "expected"), ROWS)
def test_gives_what_its_description_says(helper: str, call: str, expected: Any) -> None:
    assert value_of(call) == expected


@pytest.mark.parametrize(("helper", "call", "expected"), SAID)
def test_keeps_what_is_said(helper: str, call: str, expected: list[str]) -> None:
    value_of(call)

    assert EVALUATOR.output.lines == expected


def test_emit_metric_keeps_numbers() -> None:
    value_of("emit_metric('placed', 3)")

    assert EVALUATOR.output.metrics == [("placed", 3.0)]
    value_of("[emit_metric('a', float('inf')), emit_metric('a', float('nan')), emit_metric(1, 2)]")
    assert EVALUATOR.output.metrics == [("1", 2.0)]
    assert EVALUATOR.output.dropped == 2


def test_every_helper_has_a_description_and_a_row() -> None:
    rows = {row[0] for row in (*ROWS, *SAID)} | {"emit_metric"}

    assert {helper.name for helper in helpers()} == rows
    assert len(rows) >= 40
    assert all(helper.doc for helper in helpers())


def test_nothing_is_evicted_where_eviction_is_manual() -> None:
    manual = msgspec.structs.replace(CONTEXT, config=Config(eviction="manual"))
    text = msgspec.json.encode(manual, order="deterministic").decode()

    assert value_of("should_evict(ctx, a).needed", text) is False
    assert value_of("find_arm_to_shrink(ctx)", text) is None


def test_a_pinned_task_suits_its_arm_alone() -> None:
    pinned = msgspec.structs.replace(T1, assigned_arm="b")
    lost = msgspec.structs.replace(T3, assigned_arm="b")
    context = msgspec.structs.replace(CONTEXT, queue=(pinned, T2, lost))
    text = msgspec.json.encode(context, order="deterministic").decode()

    assert value_of("[ids(eligible_arms(ctx, t)) for t in (t1, t3)]", text) == [["b"], []]
    assert value_of("check_compatibility(ctx, t1, a).reason", text) == "the task is pinned to b"
