"""How long a scripted policy takes to decide, with the way to its process and back.

Run: python -m bench.policy_engine [calls]; one JSON line for each size of window and fleet, for
one policy that uses a plan, one that looks at every arm for every task, and the rules.
"""

import json
import os
import sys
from statistics import quantiles

import uvloop

from octarm.policies.context import ArmFacts, Context, TaskFacts
from octarm.policies.outcomes import Decided
from octarm.policies.sandbox.engine import Engine
from octarm.policies.sandbox.limits import Limits
from octarm.policies.versions import Kind

SIZES = ((16, 10), (256, 10), (256, 100), (16, 1_000), (256, 1_000))
TAGS = ("code", "search", "llm/small", "llm/large")
POLICIES: dict[str, tuple[str, Kind]] = {
    "nothing": ("def schedule(ctx):\n    return []\n", "starlark"),
    "platform": ("def schedule(ctx):\n    return platform_schedule(ctx)\n", "starlark"),
    "every arm for every task": (
        """
def schedule(ctx):
    plan, actions = new_plan(ctx), []
    for task in ctx.queue:
        arm = best_arm(ctx, task, lambda arm: arm.cost_tier, plan)
        if arm:
            actions.append(place(plan, task, arm, "cheapest"))
    return actions
""",
        "starlark",
    ),
    "rules": (
        """
rules:
  - name: eu
    condition: task.labels.get("region") == "eu"
    action: {dispatch: {arms: 'arm.labels.get("region") == "eu"', prefer: cheapest}}
  - {name: rest, action: dispatch}
""",
        "yaml",
    ),
}


def a_context(tasks: int, arms: int) -> Context:
    """A window in which every task finds a quarter of the arms, all with room."""
    return Context(
        1_000_000,
        tuple(
            TaskFacts(
                f"tsk_{n:026d}",
                tenant=f"tenant-{n % 5}",
                priority=1 + n % 10,
                needs=frozenset({TAGS[n % 4]}),
                labels={"region": ("eu", "us")[n % 2]},
                queued_at=n,
            )
            for n in range(tasks)
        ),
        tuple(
            ArmFacts(
                f"arm-{n:04d}",
                capabilities=frozenset({TAGS[n % 4]}),
                cost_tier=1 + n % 5,
                slots=100,
                free=100 - n % 50,
                running=n % 50,
                labels={"region": ("eu", "us")[n // 4 % 2]},
            )
            for n in range(arms)
        ),
    )


async def measure(calls: int) -> None:
    """Ask every policy on every size; print what it took in milliseconds."""
    # What is measured is the time that is taken, not the limit on it.
    async with Engine(Limits(call_ms=1_000, grace_ms=5_000), children=1) as engine:
        for name, (source, kind) in POLICIES.items():
            policy = (await engine.load(source, kind)).digest
            for tasks, arms in SIZES:
                context = a_context(tasks, arms)
                outcomes = [await engine.decide(policy, context) for _ in range(calls + 5)][5:]
                decided = [it for it in outcomes if isinstance(it, Decided)]
                assert len(decided) == calls, outcomes[0]
                cuts = quantiles([it.took_ms for it in decided], n=100)
                line = {
                    "policy": name,
                    "tasks": tasks,
                    "arms": arms,
                    "actions": len(decided[0].actions),
                    "p50_ms": round(cuts[49], 2),
                    "p99_ms": round(cuts[98], 2),
                    "script_cpu_ms": round(sum(it.cpu_ms for it in decided) / calls, 2),
                    "load": round(os.getloadavg()[0], 1),
                }
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    uvloop.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
