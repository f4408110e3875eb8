"""What both Taskiq peers do: send in groups, wait for every result in order."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from taskiq import AsyncBroker

from bench.peers.checked import check

GROUP = 500
CHECK_S = 0.01


async def measure(
    broker: AsyncBroker, kiq: Callable[[int], Coroutine[Any, Any, Any]], n: int
) -> float:
    """See `Peer.measure`; `kiq` sends one task."""
    await broker.startup()
    started = time.perf_counter()
    tasks: list[Any] = []
    for first in range(0, n, GROUP):
        numbers = range(first, min(first + GROUP, n))
        tasks += await asyncio.gather(*(kiq(number) for number in numbers))
    values: list[Any] = []
    for first in range(0, n, GROUP):
        group = tasks[first : first + GROUP]
        waits = (task.wait_result(check_interval=CHECK_S, timeout=60 + n / 50) for task in group)
        values += [result.return_value for result in await asyncio.gather(*waits)]
    elapsed = time.perf_counter() - started
    await broker.shutdown()
    check(values, n)
    return n / elapsed
