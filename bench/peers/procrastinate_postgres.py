"""Procrastinate on Postgres: it keeps jobs and their states, but no return values."""

import asyncio
import os
import time

import procrastinate

from bench.peers.harness import Setting

REQUIRES = "procrastinate"
STORE = "Postgres"
CONDITIONS = "Postgres (fsync on), jobs kept; it has no results: finished jobs are counted"
_WORKER = ("-m", "procrastinate", "--app=bench.peers.procrastinate_postgres.app", "worker")
SETTINGS = (
    Setting("2 workers, 20 at once", [[*_WORKER, "-c", "20", "--delete-jobs", "never"]] * 2),
    Setting("2 workers, 5 at once", [[*_WORKER, "-c", "5", "--delete-jobs", "never"]] * 2),
)
GROUP = 1000
POLL_S = 0.02
_DONE = "select count(*) as done from procrastinate_jobs where status = 'succeeded'"

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=os.environ["BENCH_POSTGRES"])
)


@app.task
async def noop(number: int) -> int:
    """Give the argument back."""
    return number


async def _done() -> int:
    row = await app.connector.execute_query_one_async(_DONE)
    return int(row["done"])


async def _measure(n: int) -> float:
    async with app.open_async():
        before = await _done()
        started = time.perf_counter()
        for first in range(0, n, GROUP):
            numbers = range(first, min(first + GROUP, n))
            await noop.batch_defer_async(*({"number": number} for number in numbers))
        while await _done() < before + n:  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        return n / (time.perf_counter() - started)


async def _prepare() -> None:
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


def prepare() -> None:
    """Make the tables."""
    asyncio.run(_prepare())


def measure(n: int) -> float:
    """See `Peer.measure`."""
    return asyncio.run(_measure(n))
