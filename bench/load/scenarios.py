"""The scenarios that load a running stack, each with its own figures."""

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nats
import psycopg

from bench.load.open_loop import OpenLoop, told
from bench.load.processes import Watched, cpu_s, own_processes
from bench.load.recovery import PAUSED, caught_up
from bench.measure import settled, throughput
from octarm.sdk import Client
from octarm.verify.check import Sources, verify
from octarm.verify.history import HistoryWriter

Json = dict[str, Any]
Up = dict[str, Any]
Scenario = Callable[["Stage"], Awaitable[Json]]

DRAIN_S: Final = 300.0
SAMPLE_S: Final = 5.0
STEADY: Final = 0.6
OVERLOAD: Final = 3.0
BURST_BASE: Final = 0.2
BURST: Final = 10.0
RECOVERY: Final = 0.33
WARM_UP_S: Final = 5.0
GENERATOR: Final = "generator"


@dataclass(frozen=True, slots=True)
class Stage:
    """A running stack and how much may be asked of it: `n` tasks to find its maximum with."""

    up: Up
    n: int
    seconds: float


@asynccontextmanager
async def loaded(stage: Stage, found: Json) -> AsyncGenerator[OpenLoop, None]:
    """Offer load inside the block; then drain, verify, and put the figures into `found`."""
    with tempfile.TemporaryDirectory(prefix="octarm-load-") as folder:
        path = Path(folder) / "history.jsonl"
        nc = await nats.connect(stage.up["nats"], max_outstanding_pings=10)
        pids = own_processes(stage.up["pids"])
        watched = Watched(pids)
        watching = asyncio.create_task(watched.watch(SAMPLE_S))
        try:
            with HistoryWriter(path, process="load") as history:
                loop = OpenLoop(nc, history)
                await loop.start()
                with taken(pids | {GENERATOR: os.getpid()}, found):
                    yield loop
                found["drained_in_s"] = round(await loop.drained(DRAIN_S), 1)
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            await nc.close()
        found["processes"] = watched.told()
        found["attempts_per_task"] = await _attempts(stage.up["postgres"])
        found["invariants"] = await _verified(stage.up, path)


@contextmanager
def taken(pids: dict[str, int], found: Json) -> Iterator[None]:
    """Put into `found` how much of a core each role took while the block ran."""
    began, before = time.monotonic(), cpu_s(pids)
    yield
    seconds, after = time.monotonic() - began, cpu_s(pids)
    found["cores"] = {role: round((after[role] - before[role]) / seconds, 3) for role in pids}


async def maximum(stage: Stage) -> float:
    """Give the stack's own maximum: the median of three closed runs."""
    async with Client(stage.up["nats"]) as client:
        await throughput(client, min(stage.n, 1000))
        rates = [await throughput(client, stage.n) for _ in range(3)]
        await settled(client)
    return statistics.median(rates)


async def steady(stage: Stage) -> Json:
    """60 % of the maximum, all the time: how long does a task take?"""
    top = await maximum(stage)
    rate = STEADY * top
    found: Json = {"maximum_per_s": round(top, 1), "rate_per_s": round(rate, 1)}
    async with loaded(stage, found) as loop:
        await loop.offer(lambda _: rate, stage.seconds)
        found |= told(loop.counts, stage.seconds)
    return found | told(loop.counts, stage.seconds)


async def overload(stage: Stage) -> Json:
    """Three times the maximum: is as much done as without, and is the rest refused?

    The machine is measured before and after, as others may use it meanwhile; what a task takes
    of the CPU, the generator's part and the refusals' included, does not depend on them.
    """
    before = await maximum(stage)
    found: Json = {"rate_per_s": round(OVERLOAD * before, 1)}
    async with loaded(stage, found) as loop:
        await loop.offer(lambda _: OVERLOAD * before, stage.seconds)
        ended = loop.counts.ended["completed"]
        found["open_at_the_end"] = loop.open
    after = await maximum(stage)
    top, goodput = statistics.mean((before, after)), ended / stage.seconds
    found["cpu_us_a_task"] = round(sum(found["cores"].values()) * stage.seconds / ended * 1e6, 1)
    found["maximum_before_and_after_per_s"] = [round(before, 1), round(after, 1)]
    found["goodput_per_s"] = round(goodput, 1)
    found["goodput_share_of_maximum"] = round(goodput / top, 3)
    return found | told(loop.counts, stage.seconds)


async def burst(stage: Stage) -> Json:
    """A quiet load, ten times as much for a quarter of the time, quiet again: does it recover?"""
    top = await maximum(stage)
    quiet = BURST_BASE * top
    begin, end = stage.seconds / 4, stage.seconds / 2

    def rate(elapsed: float) -> float:
        return quiet * BURST if begin <= elapsed < end else quiet

    found: Json = {"maximum_per_s": round(top, 1), "quiet_per_s": round(quiet, 1)}
    async with loaded(stage, found) as loop:
        await loop.offer(rate, stage.seconds)
        found["open_at_the_end"] = loop.open
    return found | told(loop.counts, stage.seconds)


async def memory(stage: Stage) -> Json:
    """30 % of the maximum for long: does any process grow?"""
    top = await maximum(stage)
    rate = top * 0.3
    found: Json = {"maximum_per_s": round(top, 1), "rate_per_s": round(rate, 1)}
    async with loaded(stage, found) as loop:
        await loop.offer(lambda _: rate, stage.seconds)
    return found | told(loop.counts, stage.seconds)


async def recovery(stage: Stage) -> Json:
    """A third of the maximum; each process is paused: how fast is the backlog made up for?"""
    top = await maximum(stage)
    rate = top * RECOVERY
    found: Json = {"maximum_per_s": round(top, 1), "rate_per_s": round(rate, 1), "paused": {}}
    async with loaded(stage, found) as loop:
        offering = asyncio.create_task(loop.offer(lambda _: rate, stage.seconds))
        await asyncio.sleep(WARM_UP_S)
        for role in PAUSED:
            found["paused"][role] = await caught_up(loop, stage.up["pids"][role], rate)
        offering.cancel()
    return found


async def _attempts(url: str) -> float:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute(
            "select count(*)::float8 / greatest(count(distinct task_id), 1) from ledger.attempt"
        )
        row = await cursor.fetchone()
    return round(float(row[0]), 4) if row else 0.0


async def _verified(up: Up, history: Path) -> str:
    sources = Sources(postgres_url=up["postgres"], nats_url=up["nats"], histories=[history])
    report = await verify(sources, wait_s=60)
    return "clean" if report.ok else str(report)


SCENARIOS: Final[dict[str, tuple[Scenario, float]]] = {
    "steady": (steady, 120),
    "overload": (overload, 120),
    "burst": (burst, 120),
    "memory": (memory, 600),
    "recovery": (recovery, 600),
}
