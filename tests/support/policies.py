"""Policies to save, and a scheduler's answers to questions about them."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from faststream.nats import NatsRouter
from nats.aio.client import Client as NATS

from octarm.common.bus.connection import connected_to
from octarm.common.bus.publisher import Publisher
from octarm.common.bus.requests import answer, control_plane
from octarm.common.bus.topology import provision
from octarm.models.arms import ArmRecord
from octarm.models.ids import new_id
from octarm.models.policies import DecisionRecord, DecisionsFound, FindDecisions
from octarm.models.queries import ArmsFound, FindArms
from octarm.models.subjects import FIND_ARMS, FIND_DECISIONS
from octarm.policies.store.store import PolicyStore
from octarm.scheduler.policies.answering import answering

CHEAPEST = """\
def schedule(ctx):
    plan = new_plan(ctx)
    actions = []
    for task in order_by_priority(ctx):
        if tenant_over_quota(ctx, task.tenant, plan):
            continue
        arm = find_cheapest_arm(ctx, task, plan)
        if arm:
            actions.append(place(plan, task, arm, "the cheapest with room"))
    return actions
"""
BROKEN = "def schedule(ctx):\n    plan = new_plan(ctx)\n    return ctx.queue[0].nope\n"
ENDLESS = "def schedule(ctx):\n    for i in range(1000000000):\n        pass\n"
GREEDY = "def schedule(ctx):\n    return list(range((len(ctx.queue) + 1) * 400000000))\n"
RULES = "rules:\n  - {name: all, action: {dispatch: {prefer: cheapest}}}\n"
LOAD = """\
name = "small"
duration_s = 60
cycle_ms = 250
[[arms]]
id = "cheap"
slots = 2
cost_per_task = 1000
[[arms]]
id = "dear"
slots = 2
cost_tier = 4
cost_per_task = 9000
[[tasks]]
name = "t"
arrivals = { process = "poisson", rate_per_s = 1 }
duration = { kind = "constant", mean_s = 1 }
"""


def a_decision(number: int, **fields: object) -> DecisionRecord:
    """A short attempt; one starts every half second."""
    return DecisionRecord.model_validate(
        {
            "task_id": new_id("tsk"),
            "attempt": 1,
            "tenant": "default",
            "tier": "interactive",
            "priority": 5,
            "queued_at": 1_700_000_000 + number / 2,
            "took_s": 0.4,
            "arm_id": "writer",
            "cost": 500,
            "needs": ["write"],
        }
        | fields
    )


@asynccontextmanager
async def a_ledger_on_bus(
    url: str, decisions: Sequence[DecisionRecord], arms: Sequence[ArmRecord]
) -> AsyncGenerator[list[FindDecisions], None]:
    """An orchestrator and a registry that know these; gives what was asked."""
    router, asked = NatsRouter(), list[FindDecisions]()

    @answer(router, FIND_DECISIONS, queue="orchestrator")
    async def find_decisions(query: FindDecisions) -> DecisionsFound:
        asked.append(query)
        found = [it for it in decisions if query.tenant in (None, it.tenant)]
        start = next((n + 1 for n, it in enumerate(found) if it.task_id == query.after), 0)
        page = found[start : start + query.limit]
        more = start + query.limit < len(found)
        return DecisionsFound(decisions=page, after=page[-1].task_id if more else None)

    @answer(router, FIND_ARMS, queue="registry")
    async def find_arms(_: FindArms) -> ArmsFound:
        return ArmsFound(arms=list(arms))

    async with control_plane(url, router, name="test-ledger"):
        yield asked


@asynccontextmanager
async def a_policy_desk(url: str) -> AsyncGenerator[NATS, None]:
    """A scheduler's answers about policies on a provisioned bus; gives a connection to ask on."""
    async with connected_to(url, name="test") as nc:
        await provision(nc.jetstream())
        publisher = Publisher(nc)
        async with answering(nc, url, PolicyStore(nc, publisher), platform="priority"):
            yield nc
        await publisher.close()
