"""Helpers with a plan remember rankings: they must give what ranking anew would give."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octarm.policies.context import ArmFacts, Context, TaskFacts
from octarm.policies.language.evaluator import Evaluator

EVALUATOR = Evaluator()
KEYS = {
    "find_ready_arm": "0",
    "find_least_loaded_arm": "(-room_on(arm, plan) / arm.slots, arm.cost_tier)",
    "find_most_free_arm": "-room_on(arm, plan)",
    "find_cheapest_arm": "(arm.cost_tier, -room_on(arm, plan) / arm.slots)",
    "find_fastest_arm": "estimate_performance(task, arm)",
    "find_most_reliable_arm": "(-arm.success_rate, arm.cost_tier)",
}
SCRIPT = """
def schedule(ctx):
    plan, keep, found = new_plan(ctx), lambda arm: arm.cost_tier < 3, []
    for n, task in enumerate(ctx.queue):
        only = keep if n % 3 == 0 else None
        arm = {helper}(ctx, task, plan, only)
        anew = best_arm(ctx, task, lambda arm: {key}, plan, only)
        found.append((arm and arm.id, anew and anew.id))
        if arm:
            place(plan, task, arm)
    return found
"""
CAPABILITIES = st.frozensets(st.sampled_from("xyz"), max_size=2)


@st.composite
def contexts(draw: st.DrawFn) -> Context:
    arms = []
    for n in range(draw(st.integers(0, 6))):
        slots = draw(st.integers(1, 4))
        arms.append(
            ArmFacts(
                f"arm-{n}",
                status=draw(st.sampled_from(["online", "online", "degraded", "offline"])),
                capabilities=draw(CAPABILITIES),
                cost_tier=draw(st.integers(1, 4)),
                slots=slots,
                free=draw(st.integers(0, slots)),
                avg_latency_ms=float(draw(st.integers(0, 3))),
                success_rate=draw(st.sampled_from([0.0, 0.5, 1.0])),
                takes_any=draw(st.booleans()),
            )
        )
    tasks = [
        TaskFacts(
            f"t{n}",
            needs=draw(CAPABILITIES),
            slots=draw(st.integers(1, 2)),
            est_ms=draw(st.integers(0, 2)),
            assigned_arm=draw(st.sampled_from([None, None, None, "arm-1"])),
        )
        for n in range(draw(st.integers(0, 12)))
    ]
    return Context(0, tuple(tasks), tuple(arms))


@pytest.mark.parametrize(("helper", "key"), KEYS.items())
@given(context=contexts())
def test_a_remembered_ranking_gives_the_arm_that_ranking_anew_gives(
    helper: str, key: str, context: Context
) -> None:
    policy = EVALUATOR.compile(SCRIPT.format(helper=helper, key=key))

    answer = EVALUATOR.decide(
        policy, EVALUATOR.context(msgspec.json.encode(context, order="deterministic").decode())
    )

    for remembered, anew in json.loads(answer):
        assert remembered == anew
