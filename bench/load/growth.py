"""What a task costs as the ledger and the fleet grow: CPU of every process, a task.

CPU time is what does not depend on who else uses the machine; tasks a second stand beside it. What
the processes take without any task (heartbeats above all) is told apart: it costs by the second.
"""

import asyncio
import os
import signal
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import nats

from bench.load.ledger_rows import fill
from bench.load.processes import cpu_s, own_processes
from bench.load.scenarios import Json, Stage
from bench.measure import settled, throughput
from octarm.clients.arm_registry import ArmRegistryClient
from octarm.sdk import Client

RUNS: Final = 3
# Of every arm: a fleet grows by arms, not by smaller ones.
SLOTS: Final = 16
SIZES: Final = (10_000, 30_000, 100_000, 300_000, 1_000_000)
ARMS: Final = (1, 10, 100, 500)
ONLINE_S: Final = 240.0
IDLE_S: Final = 5.0
TOLD_S: Final = 1.5


async def ledger_size(stage: Stage, sizes: Sequence[int] = SIZES) -> list[Json]:
    """Measure with ever more ended tasks in the ledger."""
    found = []
    for size in sizes:
        await asyncio.to_thread(fill, stage.up["postgres"], size)
        found.append({"tasks_in_ledger": size} | await cost(stage, stage.up["pids"]))
    return found


async def arms(stage: Stage, counts: Sequence[int] = ARMS) -> list[Json]:
    """Measure with ever more arms of the same size; the stack has none of its own."""
    found = []
    for count in counts:
        async with a_fleet(stage.up["nats"], count) as pid:
            pids = {**stage.up["pids"], "arms": pid}
            found.append({"arms": count} | await cost(stage, pids))
    return found


async def cost(stage: Stage, pids: dict[str, int]) -> Json:
    """Run `n` tasks some times; gives tasks a second and microseconds of CPU a task, by role."""
    pids = own_processes(pids) | {"client": os.getpid()}
    rates, costs = [], []
    async with Client(stage.up["nats"]) as client:
        await throughput(client, min(stage.n, 1000))
        await settled(client)
        at_rest = await idle(pids)
        for _ in range(RUNS):
            before, began = cpu_s(pids), time.monotonic()
            rates.append(await throughput(client, stage.n))
            mine = {"client": cpu_s(pids)["client"]}
            # What is told afterwards, to memory for one, belongs to the tasks as well.
            # `settled` lists tasks, which costs by the size of the ledger and is no part of a task.
            await asyncio.sleep(TOLD_S)
            after, took_s = cpu_s(pids) | mine, time.monotonic() - began
            await settled(client)
            spent = {role: after[role] - before[role] for role in pids}
            beyond = sum(spent.values()) - sum(at_rest.values()) * took_s
            costs.append((spent, beyond))
    by_role = {role: _a_task([spent[role] for spent, _ in costs], stage.n) for role in pids}
    return {
        "tasks_per_s": round(statistics.median(rates), 1),
        "cpu_us_a_task": _a_task([sum(spent.values()) for spent, _ in costs], stage.n),
        "cpu_us_a_task_beyond_idle": _a_task([beyond for _, beyond in costs], stage.n),
        "idle_cores": round(sum(at_rest.values()), 3),
        "cpu_us_by_role": by_role,
    }


def _a_task(seconds: list[float], tasks: int) -> float:
    return round(statistics.median(seconds) / tasks * 1e6, 1)


async def idle(pids: dict[str, int], seconds: float = IDLE_S) -> dict[str, float]:
    """Give how much of a core each role takes while nothing is to be done."""
    before = cpu_s(pids)
    await asyncio.sleep(seconds)
    after = cpu_s(pids)
    return {role: (after[role] - before[role]) / seconds for role in pids}


@asynccontextmanager
async def a_fleet(url: str, count: int, *, slots: int = SLOTS) -> AsyncGenerator[int, None]:
    """So many arms in one process, all online; they are forgotten at the end."""
    command = [sys.executable, "-m", "bench.load.fleet", url, str(count), str(slots)]
    # Stdout is for the figures alone.
    process = await asyncio.create_subprocess_exec(*command, stdout=sys.stderr)
    try:
        await _online(url, count)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()
        await _forgotten(url, count)


async def _online(url: str, count: int) -> None:
    nc = await nats.connect(url)
    try:
        async with asyncio.timeout(ONLINE_S):
            while sum(a.status == "online" for a in await _noops(nc)) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.5)
    finally:
        await nc.close()


async def _forgotten(url: str, count: int) -> None:
    nc = await nats.connect(url)
    try:
        for arm in await _noops(nc):
            await ArmRegistryClient(nc).deregister(arm.arm.arm_id)
    finally:
        await nc.close()


async def _noops(nc: Any) -> list[Any]:
    return await ArmRegistryClient(nc, timeout_s=20).find(["noop"])
