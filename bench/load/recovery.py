"""How fast what an interruption left behind is made up for, while as much as before arrives."""

import asyncio
import os
import signal
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from bench.load.open_loop import OpenLoop
from bench.load.processes import tree

PAUSED: Final = ("noop", "scheduler", "orchestrator", "postgres", "nats")
PAUSE_S: Final = 8.0
LOOKS_EVERY_S: Final = 0.05
LOOKS: Final = 60
# So long after an interruption the load must be as before, or the scenario has failed.
CAUGHT_UP_S: Final = 120.0


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process and those below it with SIGSTOP while inside."""
    family = [process.pid for process in tree(pid)]
    for member in family:
        os.kill(member, signal.SIGSTOP)
    try:
        yield
    finally:
        for member in family:
            os.kill(member, signal.SIGCONT)


async def caught_up(loop: OpenLoop, pid: int, rate: float) -> dict[str, Any]:
    """Interrupt a process for eight seconds; tell how the backlog went away afterwards.

    Counted from the first task that ended, until no more waits than before; `times_arrival` is
    how many ended a second for each that arrived.

    Raises:
        TimeoutError: the backlog is still there after two minutes.
    """
    usual = statistics.median([await _waiting(loop) for _ in range(LOOKS)])
    with stopped(pid):
        await asyncio.sleep(PAUSE_S)
    clock = asyncio.get_running_loop().time
    resumed, ended, backlog = clock(), loop.counts.ended.total(), loop.waiting
    async with asyncio.timeout(CAUGHT_UP_S):
        while loop.counts.ended.total() == ended:
            await _waiting(loop)
        began, peak = clock(), loop.waiting
        while await _waiting(loop) > usual + rate * LOOKS_EVERY_S:
            peak = max(peak, loop.waiting)
    per_s = (loop.counts.ended.total() - ended) / (clock() - began)
    return {
        "backlog": max(backlog, peak),
        "first_end_after_s": round(began - resumed, 2),
        "caught_up_after_s": round(clock() - resumed, 2),
        "ended_per_s": round(per_s, 1),
        "times_arrival": round(per_s / rate, 2),
    }


async def _waiting(loop: OpenLoop) -> int:
    await asyncio.sleep(LOOKS_EVERY_S)
    return loop.waiting
