"""Two of each service at once: whichever is killed or stands still, each task ends exactly once."""

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import psutil
import psycopg
import pytest
from nats.aio.client import Client as NATS

from octarm.cli.stack.keeper import State
from octarm.cli.stack.services import OCTARM, System, replicated
from octarm.cli.stack.supervisor import Stack, running_stack
from octarm.clients.orchestrator import OrchestratorClient
from octarm.models.commands import SubmitTask
from octarm.models.contracts import TaskSubmission
from octarm.models.subjects import LEADERS_BUCKET, shard_of
from octarm.sdk import Client, Task
from tests.support.wait import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
NAPPER = [sys.executable, "-m", "tests.support.napping_arm"]
TWICE = ("orchestrator", "scheduler", "arm-registry", "memory", "gateway")
SHARDS = 2
FAILOVER_S = 10.0
# The longest that a machine which is busy with other tests may keep a process waiting.
BUSY_S = 20.0


@asynccontextmanager
async def two_of_each(data: Path) -> AsyncGenerator[tuple[Stack, Client]]:
    env = {
        "OCTARM_HEARTBEAT_S": "1",
        "OCTARM_SHARDS": str(SHARDS),
        "PYTHONPATH": str(ROOT),
    }
    system = System(OCTARM.preparations, replicated(OCTARM.services, dict.fromkeys(TWICE, 2)))
    async with (
        running_stack(data, extra_arms={"napper": NAPPER}, env=env, system=system) as stack,
        Client(stack.urls.nats) as client,
    ):
        yield stack, client


async def _submit(client: Client, count: int, *, nap_s: float) -> list[Task]:
    return await client.submit_many(
        {
            "goal": "nap",
            "assigned_arm": "napper",
            "context": {"number": number, "nap_s": nap_s},
        }
        for number in range(count)
    )


async def _endings(stack: Stack) -> Counter[str]:
    """How often each task ended, by what its ledger tells of results and terminal states."""
    url = stack.urls.postgres
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute(
            "select t.id, count(r.task_id) from ledger.task t left join ledger.result r"
            " on r.task_id = t.id where t.state = 'completed' group by t.id"
        )
        return Counter(dict(await cursor.fetchall()))


async def _tries(stack: Stack) -> int:
    async with await psycopg.AsyncConnection.connect(stack.urls.postgres) as connection:
        row = await (await connection.execute("select count(*) from ledger.attempt")).fetchone()
        assert row is not None
        return int(row[0])


async def _leader_of(nc: NATS, shard: int) -> str:
    bucket = await nc.jetstream().key_value(LEADERS_BUCKET)
    holder = ((await bucket.get(f"scheduler-{shard}")).value or b"").decode()
    return holder.rpartition(".")[0]


def _pid_of(data: Path, holder: str) -> int:
    """The scheduler that named itself so in its log."""
    for log in (data / "logs").glob("scheduler*.log"):
        for line in log.read_text().splitlines():
            if holder in line and '"starting"' in line:
                return int(line.split('"pid": ')[1].split(",")[0])
    raise AssertionError(f"no scheduler calls itself {holder}")


async def test_two_of_each_lose_and_repeat_nothing_whichever_is_lost(tmp_path: Path) -> None:
    async with two_of_each(tmp_path) as (stack, client):
        tasks = await _each_ends_once_while_one_of_each_is_killed(stack, client)
        tasks += await _nobody_asks_in_vain_while_orchestrators_leave(stack, client)
        for how in (signal.SIGKILL, signal.SIGSTOP):
            tasks += await _another_leads_within_ten_seconds(stack, client, how, tmp_path)

        assert await _endings(stack) == Counter({task.id: 1 for task in tasks})


async def _each_ends_once_while_one_of_each_is_killed(stack: Stack, client: Client) -> list[Task]:
    tasks: list[Task] = []
    for victim in TWICE:
        tasks += await _submit(client, 60, nap_s=0.3)
        await _leave_and_await_return(stack, victim, signal.SIGKILL)
    await _end(tasks)
    return tasks


async def _nobody_asks_in_vain_while_orchestrators_leave(
    stack: Stack, client: Client
) -> list[Task]:
    """What was sent to one that drains is answered, what comes then goes to the other."""
    nc = await nats.connect(stack.urls.nats)
    patient = OrchestratorClient(nc, timeout_s=BUSY_S)
    enough, tasks = asyncio.Event(), list[Task]()

    async def keep_asking() -> None:
        while not enough.is_set():
            context = {"number": len(tasks), "nap_s": 0}
            nap = TaskSubmission(goal="nap", assigned_arm="napper", context=context)
            (answer,) = await patient.submit_many("default", [SubmitTask(submission=nap)])
            assert answer.accepted, answer.problem
            task = await patient.get("default", answer.accepted.task_id)
            tasks.append(client.task(task.task_id))

    asking = asyncio.gather(*(keep_asking() for _ in range(10)))
    for role in ("orchestrator", "orchestrator-2"):
        await _leave_and_await_return(stack, role, signal.SIGTERM)
    enough.set()
    await asking
    await _end(tasks)
    await nc.close()
    return tasks


async def _leave_and_await_return(stack: Stack, role: str, how: signal.Signals) -> None:
    before = stack.pids()[role]
    keeper = next(one for one in stack.keepers if one.name == role)
    os.kill(before, how)
    await wait_until(
        lambda: stack.pids()[role] != before and keeper.state is State.READY, timeout_s=60
    )


async def _another_leads_within_ten_seconds(
    stack: Stack, client: Client, how: signal.Signals, data: Path
) -> list[Task]:
    """Take a shard's leader away; one that stood still must leave its old queue alone."""
    nc = await nats.connect(stack.urls.nats)
    before = await _submit(client, 20, nap_s=0.01)
    await _end(before)
    tried = await _tries(stack)
    leader = await _leader_of(nc, 0)
    pid, since = _pid_of(data, leader), time.monotonic()
    os.kill(pid, how)
    try:
        waiting = await _submit(client, 40, nap_s=0.01)
        await _end([task for task in waiting if shard_of("default", task.id, SHARDS) == 0])
        took_s = time.monotonic() - since
        assert await _leader_of(nc, 0) != leader
    finally:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGCONT)
    after = await _submit(client, 40, nap_s=0.01)
    await _end([*waiting, *after])
    await nc.close()
    assert took_s < FAILOVER_S + BUSY_S, how.name
    assert await _tries(stack) - tried == 80, f"{how.name}: an attempt was placed twice"
    return [*before, *waiting, *after]


async def _end(tasks: list[Task]) -> None:
    async with asyncio.timeout(120):
        for task in tasks:
            await task.result()
