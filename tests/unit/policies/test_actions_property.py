"""Whatever is asked for, what is kept breaks nothing."""

from collections import Counter
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from octarm.policies.actions import Dispatch, Evict, Reject, check
from octarm.policies.context import (
    ArmFacts,
    Context,
    InstanceFacts,
    TaskFacts,
    TenantFacts,
    TenantLimits,
)
from octarm.policies.eligibility import eligible

NOW = 1_000
TAGS = st.frozensets(st.sampled_from("xy"), max_size=2)
TASKS, ARMS = [f"t{n}" for n in range(5)], [f"a{n}" for n in range(4)]
INSTANCES = [f"{arm}-{n}" for arm in ARMS for n in range(2)]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@st.composite
def contexts(draw: st.DrawFn) -> Context:
    tasks = tuple(
        TaskFacts(
            name,
            tenant=draw(st.sampled_from(["acme", "other"])),
            needs=draw(TAGS),
            slots=draw(st.integers(1, 2)),
            est_cost=draw(st.integers(0, 3)),
            deadline_ms=draw(st.sampled_from([None, None, NOW, NOW + 1])),
            assigned_arm=draw(st.sampled_from([None, None, "a1"])),
        )
        for name in TASKS
    )
    arms = tuple(
        ArmFacts(
            name,
            status=draw(st.sampled_from(["online", "online", "degraded", "draining", "offline"])),
            capabilities=draw(TAGS),
            slots=4,
            free=draw(st.integers(0, 4)),
            takes_any=draw(st.booleans()),
            instances=tuple(
                InstanceFacts(f"{name}-{n}", running=draw(st.integers(0, 1))) for n in range(2)
            ),
        )
        for name in ARMS
    )
    limits = TenantLimits(
        draw(st.none() | st.integers(0, 3)), cost_per_day=draw(st.none() | st.integers(0, 5))
    )
    return Context(NOW, tasks, arms, tenants={"acme": TenantFacts("acme", limits=limits)})


def an_action(kind: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({"action": st.just(kind), **fields})


TASK, ARM = st.sampled_from([*TASKS, "no"]), st.sampled_from([*ARMS, "no"])
ACTIONS = st.lists(
    an_action("dispatch", task=TASK, arm=ARM)
    | an_action("reject", task=TASK)
    | an_action("wait", task=TASK, retry_after_ms=st.integers(-1, 5))
    | an_action("evict", instance=st.sampled_from([*INSTANCES, "no"]))
    | an_action("start", arm=ARM)
    | JSON,
    max_size=30,
)


@given(context=contexts(), actions=ACTIONS)
def test_what_is_kept_breaks_nothing(context: Context, actions: list[Any]) -> None:
    checked = check(actions, context)

    tasks = {task.id: task for task in context.queue}
    arms = {arm.id: arm for arm in context.arms}
    placed = [it for it in checked.kept if isinstance(it, Dispatch)]
    settled = [it.task for it in checked.kept if isinstance(it, Dispatch | Reject)]
    taken, running, cost = Counter[str](), Counter[str](), Counter[str]()
    for it in placed:
        task = tasks[it.task]
        assert arms[it.arm] in eligible(task, context.arms)
        assert task.deadline_ms is None or task.deadline_ms > NOW
        taken[it.arm] += task.slots
        running[task.tenant] += 1
        cost[task.tenant] += task.est_cost
    assert len(settled) == len(set(settled))
    assert all(taken[arm] <= arms[arm].free for arm in taken)
    limits = context.tenants["acme"].limits
    assert limits.running is None or running["acme"] <= limits.running
    assert limits.cost_per_day is None or cost["acme"] <= limits.cost_per_day
    idle = {one.id for arm in context.arms for one in arm.instances if not one.running}
    assert all(it.instance in idle for it in checked.kept if isinstance(it, Evict))
    assert len(checked.kept) + len(checked.dropped) == len(actions)


@given(context=contexts(), actions=ACTIONS)
def test_what_is_kept_is_kept_again(context: Context, actions: list[Any]) -> None:
    kept = check(actions, context).kept

    again = check([msgspec.to_builtins(action) for action in kept], context)

    assert again.kept == kept
    assert again.dropped == ()
