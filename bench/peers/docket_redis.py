"""pydocket on Redis streams: bulk scheduling, results kept."""

import asyncio
import os
import sys
import time
from datetime import timedelta

from docket import Docket, Worker

from bench.peers.checked import check
from bench.peers.harness import Setting

REQUIRES = "docket"
STORE = "Redis"
CONDITIONS = "Redis streams and results, acks after the work"
_WORKER = ("-m", "bench.peers.docket_redis")
SETTINGS = (
    Setting("2 processes, 100 at once", [[*_WORKER, "100"]] * 2),
    Setting("2 processes, 20 at once", [[*_WORKER, "20"]] * 2),
)
# A result that is not there yet takes a connection.
GROUP = 50
# A pool of redis-py ends at 100 connections, and who asks for one more gets an error: a worker of
# 100 tasks then loses how one has ended, and its result is awaited for ever.
CONNECTIONS = 1000


async def noop(number: int) -> int:
    """Give the argument back."""
    return number


def _docket() -> Docket:
    url = f"{os.environ['BENCH_REDIS']}?max_connections={CONNECTIONS}"
    return Docket(name="bench", url=url)


async def _work(concurrency: int) -> None:
    async with _docket() as docket:
        docket.register(noop)
        async with Worker(docket, concurrency=concurrency) as worker:
            await worker.run_forever()


async def _measure(n: int) -> float:
    timeout = timedelta(seconds=60 + n / 50)
    async with _docket() as docket:
        docket.register(noop)
        started = time.perf_counter()
        sent = await docket.add_many([docket.call(noop)(number) for number in range(n)])
        values: list[int] = []
        for first in range(0, n, GROUP):
            group = sent[first : first + GROUP]
            values += await asyncio.gather(*(task.get_result(timeout=timeout) for task in group))
        elapsed = time.perf_counter() - started
    check(values, n)
    return n / elapsed


def measure(n: int) -> float:
    """See `Peer.measure`."""
    return asyncio.run(_measure(n))


if __name__ == "__main__":
    asyncio.run(_work(int(sys.argv[1])))
