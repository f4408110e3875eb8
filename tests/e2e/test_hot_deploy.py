"""Fifty versions of a policy, deployed one after another while work goes on."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import psycopg
import pytest

from octarm.cli.stack.supervisor import Stack, running_stack
from octarm.clients.policies import PolicyClient
from octarm.policies.versions import digest
from octarm.sdk import Client
from octarm.verify.check import Sources, verify
from octarm.verify.history import HistoryWriter
from tests.chaos.load import Load
from tests.support.crashing_arm import NAME, SINK
from tests.support.sources import ROOT
from tests.support.wait import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

VERSIONS: Final = 50
GROUP: Final = 8
EVERY_S: Final = 0.1
ENOUGH_S: Final = 60.0
ARM: Final = [sys.executable, "-m", "tests.support.crashing_arm"]
# Places as the platform does, and signs with its number.
SOURCE: Final = """
def schedule(ctx):
    plan, actions = new_plan(ctx), []
    for task in order_by_priority(ctx):
        arm = find_ready_arm(ctx, task, plan)
        if arm:
            actions.append(place(plan, task, arm, "signed {number}"))
    return actions
"""
DECISIONS: Final = """
    select a.task_id, a.attempt, a.decision ->> 'policy', a.decision ->> 'reason'
    from ledger.attempt a
"""
DECIDED: Final = "select 1 from ledger.attempt where decision ->> 'policy' = %s limit 1"


@asynccontextmanager
async def load_goes_on(load: Load) -> AsyncGenerator[None, None]:
    """Hand in a few tasks again and again while inside; wait for all of them after that."""
    stop = asyncio.Event()

    async def hand_in() -> None:
        while not stop.is_set():
            await load.submit(GROUP)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), EVERY_S)

    handing_in = asyncio.create_task(hand_in())
    try:
        yield
    finally:
        stop.set()
        await handing_in
    async with asyncio.timeout(ENOUGH_S):
        await asyncio.gather(*(task.wait() for task in load.tasks))


async def deployed_in_turn(policies: PolicyClient, ledger_url: str) -> set[str]:
    """Deploy one version after another, each once the one before it has placed a task.

    Gives the versions that were taken back, as a busy machine may make them late thrice.
    """
    tripped: set[str] = set()
    async with await psycopg.AsyncConnection.connect(ledger_url, autocommit=True) as ledger:
        for number in range(VERSIONS):
            saved = await policies.save("hot", SOURCE.format(number=number))
            version = saved.policy.digest
            await policies.deploy(version)

            async def has_had_its_turn(version: str = version) -> bool:
                if (await policies.list()).deployments[0].digest != version:
                    tripped.add(version)
                    return True
                found = await ledger.execute(DECIDED, (f"hot@{version}",))
                return await found.fetchone() is not None

            await wait_until(has_had_its_turn, ENOUGH_S)
    return tripped


def decisions(stack: Stack) -> list[tuple[str, int, str, str]]:
    with psycopg.connect(stack.urls.postgres) as ledger:
        return ledger.execute(DECISIONS).fetchall()


async def test_fifty_versions_under_load_lose_nothing_and_sign_what_they_decide(
    tmp_path: Path,
) -> None:
    sink, history = tmp_path / "runs.jsonl", tmp_path / "history.jsonl"
    env = {"PYTHONPATH": str(ROOT), SINK: str(sink)}
    async with (
        running_stack(tmp_path / "up", extra_arms={NAME: ARM}, env=env) as stack,
        Client(stack.urls.nats) as client,
    ):
        with HistoryWriter(history, process="client") as writer:
            load = Load(client, writer)
            async with load_goes_on(load):
                tripped = await deployed_in_turn(client.policies, stack.urls.postgres)
        sources = Sources(stack.urls.postgres, stack.urls.nats, [history], [sink])
        report = await verify(sources, wait_s=60)
        found = decisions(stack)
        changes = len((await client.policies.list()).deployments)

    assert report.ok, report
    assert {invariant: report.status(invariant) for invariant in ("I1", "I3", "I4", "I6", "H")} == (
        dict.fromkeys(("I1", "I3", "I4", "I6", "H"), "held")
    )
    runs = [json.loads(line) for line in sink.read_text().splitlines()]
    assert len({(run["task_id"], run["attempt"]) for run in runs}) == len(runs)
    assert {task_id for task_id, *_ in found} == load.ids

    signed = {f"signed {n}": f"hot@{digest(SOURCE.format(number=n))}" for n in range(VERSIONS)}
    own = [(policy, reason) for _, _, policy, reason in found if policy.startswith("hot@")]
    assert all(signed[reason] == policy for policy, reason in own)
    others = {policy for _, _, policy, _ in found} - set(signed.values())
    assert others <= {"priority", "fair_share"}
    assert {policy for policy, _ in own} | {f"hot@{it}" for it in tripped} == set(signed.values())
    assert changes >= VERSIONS
