"""A task of several slots wants them of one instance: helpers know what the instances have."""

import json

import msgspec
import pytest

from octarm.policies.actions import check
from octarm.policies.context import ArmFacts, Context, TaskFacts
from octarm.policies.language.evaluator import Evaluator

EVALUATOR = Evaluator()
SMALL = ArmFacts("a-small", slots=8, free=8, largest=2, widest=2)
BUSY = ArmFacts("b-busy", slots=8, free=5, largest=4, widest=2)
FREE = ArmFacts("c-free", cost_tier=5, slots=8, free=4, largest=4, widest=4, success_rate=0.5)
WIDE = TaskFacts("wide", slots=3)
CONTEXT = Context(1, (WIDE, TaskFacts("narrow")), (SMALL, BUSY, FREE))
CHOICES = (
    "find_ready_arm(ctx, t{plan})",
    "find_least_loaded_arm(ctx, t{plan})",
    "find_most_free_arm(ctx, t{plan})",
    "find_cheapest_arm(ctx, t{plan})",
    "find_fastest_arm(ctx, t{plan})",
    "find_most_reliable_arm(ctx, t{plan})",
    "find_arm_round_robin(ctx, t{plan})",
    "find_affine_arm(ctx, t{plan})",
    "best_arm(ctx, t, lambda arm: arm.id{plan})",
)


def value_of(expression: str, context: Context = CONTEXT) -> object:
    source = (
        f"def schedule(ctx):\n    t, plan = ctx.queue[0], new_plan(ctx)\n    return [{expression}]"
    )
    text = msgspec.json.encode(context, order="deterministic").decode()
    return json.loads(EVALUATOR.decide(EVALUATOR.compile(source), EVALUATOR.context(text)))[0]


@pytest.mark.parametrize("plan", ["", ", plan=plan"])
@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_is_an_arm_of_which_one_instance_has_room(choice: str, plan: str) -> None:
    assert value_of(choice.format(plan=plan) + ".id") == "c-free"


@pytest.mark.parametrize("choice", CHOICES)
def test_a_narrow_task_that_came_before_changes_nothing(choice: str) -> None:
    narrow = choice.format(plan=", plan=plan").replace("(ctx, t", "(ctx, ctx.queue[1]")
    wide = choice.format(plan=", plan=plan")

    assert value_of(f"[{narrow}, {wide}.id][1]") == "c-free"


def test_arms_whose_instances_are_all_too_small_are_not_eligible() -> None:
    assert value_of("[arm.id for arm in eligible_arms(ctx, t)]") == ["b-busy", "c-free"]
    why = value_of("check_compatibility(ctx, t, ctx.arms[0]).reason")
    assert why == "a-small has 2 slots at most, 3 are wanted"


def test_an_arm_whose_instances_are_all_too_busy_does_not_fit() -> None:
    fits = value_of("[can_task_fit(ctx, t, arm).fits for arm in ctx.arms]")

    assert fits == [False, False, True]
    assert value_of("[arm.id for arm in find_arms_with_room(ctx, 3)]") == ["c-free"]


def test_the_host_drops_what_helpers_would_not_have_asked_for() -> None:
    wanted = [{"action": "dispatch", "task": "wide", "arm": arm.id} for arm in (SMALL, BUSY, FREE)]

    checked = check(wanted, CONTEXT)

    assert [it.kind for it in checked.dropped] == ["too_large", "arm_full"]
    assert [it.arm for it in checked.kept] == ["c-free"]  # type: ignore[union-attr]
