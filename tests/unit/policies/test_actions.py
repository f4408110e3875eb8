from typing import Any

import pytest

from octarm.policies.actions import (
    MAX_ACTIONS,
    Action,
    Checked,
    Dispatch,
    Evict,
    Reject,
    Start,
    Wait,
    check,
    senseless,
)
from octarm.policies.context import (
    ArmFacts,
    Context,
    InstanceFacts,
    TaskFacts,
    TenantFacts,
    TenantLimits,
)

NOW = 1_000_000
BUSY, IDLE = InstanceFacts("a-1", running=1), InstanceFacts("a-2")


def a_context(*tasks: TaskFacts, arms: tuple[ArmFacts, ...] = (), **rest: Any) -> Context:
    known = arms or (ArmFacts("a", slots=2, free=2, instances=(BUSY, IDLE)),)
    return Context(NOW, queue=tasks or (TaskFacts("t1"), TaskFacts("t2")), arms=known, **rest)


def kinds(checked: Checked) -> list[str]:
    return [dropped.kind for dropped in checked.dropped]


def test_keeps_what_holds_in_its_order() -> None:
    actions: list[Action] = [
        Dispatch("t2", "a", "room", 0.5),
        Reject("t1", "not today"),
        Evict("a-2"),
        Start("a"),
        Wait("later", 100),
        Wait("that one too", task="t1"),
    ]

    assert check(actions, a_context()) == Checked(tuple(actions))


def test_reads_mappings_as_actions() -> None:
    given = {"action": "dispatch", "task": "t1", "arm": "a"}

    assert check([given], a_context()).kept == (Dispatch("t1", "a"),)


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        (Dispatch("gone", "a"), "unknown_task"),
        (Dispatch("t1", "gone"), "unknown_arm"),
        (Reject("gone"), "unknown_task"),
        (Wait(task="gone"), "unknown_task"),
        (Start("gone"), "unknown_arm"),
        (Evict("gone"), "unknown_instance"),
        (Evict("a-1"), "busy"),
        (Wait(retry_after_ms=0), "wrong_type"),
        (Wait(retry_after_ms=3_600_001), "wrong_type"),
        (Dispatch("t1", "a", "x" * 201), "wrong_type"),
        (Dispatch("", "a"), "wrong_type"),
        (Dispatch(object(), "a"), "wrong_type"),  # type: ignore[arg-type]
        ({"action": "dispatch", "task": "t1"}, "wrong_type"),
        ({"action": "explode"}, "wrong_type"),
        ({1: 2}, "wrong_type"),
        ({"action": "dispatch", "task": 1, "arm": "a"}, "wrong_type"),
        ([], "wrong_type"),
        ("dispatch", "wrong_type"),
        (None, "wrong_type"),
        (42, "wrong_type"),
        ("x" * 10_000, "wrong_type"),
    ],
)
def test_drops_what_does_not_hold_and_says_of_what_kind_it_is(action: object, kind: str) -> None:
    checked = check([action, Start("a")], a_context())

    assert kinds(checked) == [kind]
    assert checked.kept == (Start("a"),)
    assert checked.dropped[0].reason
    assert len(checked.dropped[0].action) <= 200


def test_settles_a_task_once_whatever_is_asked_for_it() -> None:
    actions = [Dispatch("t1", "a"), Dispatch("t1", "a"), Reject("t1"), Reject("t2"), Reject("t2")]

    checked = check([*actions, Dispatch("t2", "a"), Evict("a-2"), Evict("a-2")], a_context())

    assert checked.kept == (Dispatch("t1", "a"), Reject("t2"), Evict("a-2"))
    assert kinds(checked) == ["duplicate"] * 5
    assert checked.dropped[0].task == "t1"


def test_fills_no_arm_beyond_its_free_slots() -> None:
    tasks = (TaskFacts("t1", slots=2), TaskFacts("t2"), TaskFacts("t3"))
    arm = ArmFacts("a", slots=4, free=3)

    checked = check([Dispatch(f"t{i}", "a") for i in (1, 2, 3)], a_context(*tasks, arms=(arm,)))

    assert checked.kept == (Dispatch("t1", "a"), Dispatch("t2", "a"))
    assert kinds(checked) == ["arm_full"]


@pytest.mark.parametrize(
    ("task", "arm", "kind"),
    [
        (TaskFacts("t", needs=frozenset({"x"})), ArmFacts("a"), "incapable"),
        (TaskFacts("t"), ArmFacts("a", takes_any=False), "incapable"),
        (TaskFacts("t"), ArmFacts("a", status="offline"), "arm_away"),
        (TaskFacts("t"), ArmFacts("a", status="draining"), "arm_away"),
        (TaskFacts("t"), ArmFacts("a", free=0), "arm_full"),
        (TaskFacts("t", assigned_arm="b"), ArmFacts("a"), "pinned"),
        (TaskFacts("t", deadline_ms=NOW), ArmFacts("a"), "deadline"),
    ],
)
def test_passes_no_task_through_the_hard_filter(task: TaskFacts, arm: ArmFacts, kind: str) -> None:
    checked = check([Dispatch("t", "a")], a_context(task, arms=(arm,)))

    assert kinds(checked) == [kind]


def test_takes_a_degraded_arm_only_when_no_other_that_suits_is_online() -> None:
    slow, fast = ArmFacts("slow", status="degraded"), ArmFacts("fast")

    assert kinds(check([Dispatch("t1", "slow")], a_context(arms=(slow, fast)))) == ["degraded"]
    assert check([Dispatch("t1", "slow")], a_context(arms=(slow,))).kept


def test_passes_no_limit_of_a_tenant_with_what_one_answer_adds_up_to() -> None:
    tasks = tuple(TaskFacts(f"t{i}", tenant="acme", est_cost=40) for i in range(4))
    arm = ArmFacts("a", slots=9, free=9)
    many = TenantFacts("acme", running=1, limits=TenantLimits(running=3))
    dear = TenantFacts("acme", spent_today=10, limits=TenantLimits(cost_per_day=100))
    actions = [Dispatch(task.id, "a") for task in tasks]

    for tenant in (many, dear):
        context = a_context(*tasks, arms=(arm,), tenants={"acme": tenant})
        checked = check(actions, context)

        assert len(checked.kept) == 2
        assert kinds(checked) == ["quota", "quota"]


def test_a_tenant_without_limits_may_fill_the_fleet() -> None:
    tenants = {"default": TenantFacts("default", running=10**6, spent_today=10**12)}

    assert len(check([Dispatch("t1", "a")], a_context(tenants=tenants)).kept) == 1


def test_drops_the_rest_of_an_endless_answer_at_once() -> None:
    def endless() -> Any:
        while True:
            yield Start("a")

    checked = check(endless(), a_context())

    assert len(checked.kept) == MAX_ACTIONS
    assert kinds(checked) == ["too_many"]


@pytest.mark.parametrize("given", [[Dispatch("gone", "a")], ["go", Dispatch("t1", "nowhere")]])
def test_an_answer_in_which_nothing_can_ever_hold_is_as_good_as_none(given: list[object]) -> None:
    why = senseless(check(given, a_context()))

    assert why is not None
    assert why.startswith("bad return: none of its actions holds: ")


@pytest.mark.parametrize(
    "given",
    [
        [],
        [Dispatch("t1", "a"), Dispatch("gone", "a")],
        [Dispatch("gone", "a"), Dispatch("t1", "b")],
    ],
)
def test_an_answer_of_which_something_holds_or_may_hold_later_is_an_answer(
    given: list[object],
) -> None:
    off = ArmFacts("b", slots=1, free=0, instances=(InstanceFacts("b-1", running=1),))
    context = a_context(arms=(ArmFacts("a", slots=2, free=2, instances=(BUSY, IDLE)), off))

    assert senseless(check(given, context)) is None
