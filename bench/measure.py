"""The measuring client: a process of its own, so that it costs what a client costs."""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import uvloop

from bench import bare
from bench.http_load import accepts_per_s
from octarm.sdk import Client

IDLE_S = 5.0
ROUNDS = 3
Figures = dict[str, float | int | dict[str, float]]


async def throughput(client: Client, n: int) -> float:
    """Send `n` no-op tasks through everything; every result is awaited and checked."""
    submissions = [
        {"goal": "do nothing", "required_capabilities": ["noop"], "context": {"n": i}}
        for i in range(n)
    ]
    started = time.perf_counter()
    tasks = await client.submit_many(submissions)
    expected = {task.id: i for i, task in enumerate(tasks)}
    async for task, result in client.as_completed(tasks):
        if isinstance(result, Exception):
            raise result
        if result.output != {"n": expected.pop(task.id)}:
            raise RuntimeError(f"{task.id} came back with {result.output!r}")
    elapsed = time.perf_counter() - started
    if expected:
        raise RuntimeError(f"{len(expected)} results are missing")
    return n / elapsed


async def latency_ms(client: Client, n: int) -> list[float]:
    """Submit one, wait for its result, again; gives sorted milliseconds."""
    took = []
    for i in range(n):
        started = time.perf_counter()
        task = await client.submit(
            goal="do nothing", required_capabilities=["noop"], context={"n": i}
        )
        await task.result(timeout=30)
        took.append((time.perf_counter() - started) * 1000)
    return sorted(took)


async def idle(pids: Mapping[str, int]) -> tuple[dict[str, float], dict[str, float]]:
    """Give each process's share of a core in percent, and its memory in MiB, while idle."""
    processes = {role: psutil.Process(pid) for role, pid in pids.items()}
    before = {role: sum(p.cpu_times()[:2]) for role, p in processes.items()}
    await asyncio.sleep(IDLE_S)
    cpu = {
        role: round((sum(p.cpu_times()[:2]) - before[role]) / IDLE_S * 100, 2)
        for role, p in processes.items()
    }
    rss = {role: round(p.memory_info().rss / 2**20, 1) for role, p in processes.items()}
    return cpu, rss


def spent_s(pids: Mapping[str, int]) -> dict[str, float]:
    """Give the processor time of each process with its children; the supervisor's are the others.

    Children that have ended are counted by who has waited for them.
    """
    return {role: _spent_s(psutil.Process(pid), role != "supervisor") for role, pid in pids.items()}


def _spent_s(process: psutil.Process, with_children: bool) -> float:
    own = process.cpu_times()
    if not with_children:
        return own.user + own.system
    spent = sum(own[:4])
    for child in process.children(recursive=True):
        # Those of Postgres come and go.
        with suppress(psutil.NoSuchProcess):
            spent += sum(child.cpu_times()[:4])
    return float(spent)


async def settled(client: Client, *states: str) -> None:
    """Wait until no task is in one of these states; by default, until none is open."""
    for state in states or ("queued", "dispatched", "running"):
        async for _ in _every(0.2):
            if not (await client.find(state=state, limit=1)).tasks:
                break


async def _every(seconds: float) -> AsyncGenerator[None, None]:
    while True:
        yield
        await asyncio.sleep(seconds)


async def measure(up: dict[str, Any], n: int) -> Figures:
    """Take every figure, one after another, in the same stack."""
    async with Client(up["nats"]) as client:
        await throughput(client, min(n, 1000))
        await asyncio.sleep(2)
        cpu, rss_idle = await idle(up["pids"])
        serial = await latency_ms(client, 200)
        bare_rates = [await bare.run(up["nats"], n)]
        before = spent_s(up["pids"])
        rates = [await throughput(client, n) for _ in range(ROUNDS)]
        after = spent_s(up["pids"])
        bare_rates.append(await bare.run(up["nats"], n))
        http = await accepts_per_s(up["gateway"], min(n, 5000))
        await settled(client)
        _, rss = await idle(up["pids"])
    bare_rate, rate = statistics.median(bare_rates), statistics.median(rates)
    return {
        "tasks_per_s": round(rate, 1),
        "bare_tasks_per_s": round(bare_rate, 1),
        "ratio": round(rate / bare_rate, 4),
        "serial_p50_ms": round(serial[len(serial) // 2], 3),
        "serial_p99_ms": round(serial[int(len(serial) * 0.99)], 3),
        "http_accept_per_s": round(http, 1),
        "n_tasks": n,
        "rss_mib": rss,
        "rss_idle_mib": rss_idle,
        "cpu_idle_percent": cpu,
        "cpu_us_per_task": {
            role: round((after[role] - before[role]) / (ROUNDS * n) * 1e6, 1) for role in before
        },
    }


if __name__ == "__main__":
    up_file, number = sys.argv[1:]
    figures = uvloop.run(measure(json.loads(Path(up_file).read_text()), int(number)))
    print(json.dumps(figures))
