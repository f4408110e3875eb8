"""What hostile scripts cost: throughput from the moment that one is deployed, on the real stack.

Run: python -m bench.hostile [tasks] [--rounds N]; a JSON line for each script comes out. Rounds
with and without it take turns, and medians of pairs are given: `throughput` by the wall clock,
`cpu` by the processor time that a task costs all processes, which other work on the machine
disturbs less. A script is deployed while tasks come; what became of it is told, too. To start
its processes and to fail thrice costs the same however long a round is: some six seconds by
default, so that all nine scripts take about seven minutes.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psutil

from bench.measure import throughput
from octarm.cli.stack.supervisor import running_stack
from octarm.common.bus.connection import connected_to
from octarm.common.bus.publisher import Publisher
from octarm.models.ids import new_id
from octarm.models.policies import SavePolicy
from octarm.policies.book import Act
from octarm.policies.store.store import PolicyStore
from octarm.policies.versions import digest
from octarm.sdk import Client

ENV: Final = {"OCTARM_TRACE_SAMPLE": "0", "OCTARM_LOG_LEVEL": "error"}
GIVE_UP_S: Final = 60.0
HOSTILE: Final = {
    "endless": "for i in range(1 << 30):\n        pass",
    "nested ranges": "for i in range(1 << 20):\n        for j in range(1 << 20):\n            pass",
    "recursion": "return schedule(ctx)",
    "all memory": "x = [0]\n    for i in range(64):\n        x += x",
    "a string that doubles": "x = 'x'\n    for i in range(64):\n        x += x",
    "a gigabyte of output": "for i in range(1 << 20):\n        print('x' * 1024)",
    "huge answer": "return [wait('x' * 200)] * 9999",
    "invalid actions": "return [dispatch('nobody', 'nowhere'), 7, {'action': 'explode'}]",
    "exception": "fail('on purpose')",
}


class Stand:
    """A stack under load, its policies, and what its processes have used."""

    def __init__(self, client: Client, store: PolicyStore, pids: Callable[[], list[int]]) -> None:
        self._client = client
        self._store = store
        self._pids = pids

    async def round(self, count: int) -> tuple[float, float]:
        """Give tasks a second, and processor milliseconds a task."""
        before = self._cpu_s()
        rate = await throughput(self._client, count)
        return rate, (self._cpu_s() - before) / count * 1000

    async def hostile_round(self, count: int, source: str) -> tuple[float, float, str]:
        """The same with a script that is deployed while tasks come; and what became of it."""
        deploying = asyncio.create_task(self._deploy(source))
        rate, cpu_ms = await self.round(count)
        await deploying
        return rate, cpu_ms, await self._taken_back()

    async def _deploy(self, source: str) -> None:
        wanted = SavePolicy(name="bad", kind="starlark", source=source, by="bench")
        await self._store.save(wanted, _act())
        await self._store.deploy(digest(source), _act())

    async def _taken_back(self) -> str:
        """Wait for it, with some work to decide on; gives the reason."""
        async with asyncio.timeout(GIVE_UP_S):
            while (book := await self._store.book()).live is not None:
                await throughput(self._client, 10)
        return book.deployments[0].because

    def _cpu_s(self) -> float:
        """Count what ended children have used, too: those of policies live short."""
        return sum(sum(psutil.Process(pid).cpu_times()[:4]) for pid in self._pids())


async def measure(count: int, rounds: int) -> None:
    """Measure every script, and print a line for each."""
    arms = {"noop": (sys.executable, "-m", "bench.noop_arm")}
    with tempfile.TemporaryDirectory(prefix="octarm-hostile-") as folder:
        async with (
            running_stack(Path(folder), extra_arms=arms, env=ENV) as stack,
            Client(stack.urls.nats) as client,
            connected_to(stack.urls.nats, name="bench") as nc,
        ):
            publisher = Publisher(nc)
            stand = Stand(client, PolicyStore(nc, publisher), lambda: [*stack.pids().values()])
            await stand.round(min(count, 2000))
            for kind, body in HOSTILE.items():
                source = f"def schedule(ctx):\n    {body}\n    return []\n"
                found = await _pairs(stand, source, count, rounds)
                print(json.dumps({"script": kind} | found), flush=True)
            await publisher.close()


async def _pairs(stand: Stand, source: str, count: int, rounds: int) -> dict[str, object]:
    pairs = []
    for number in range(rounds):
        if number % 2:
            hostile, platform = await stand.hostile_round(count, source), await stand.round(count)
        else:
            platform, hostile = await stand.round(count), await stand.hostile_round(count, source)
        pairs.append((platform, hostile))
    return {
        "throughput": round(statistics.median(bad[0] / good[0] for good, bad in pairs), 3),
        "cpu": round(statistics.median(good[1] / bad[1] for good, bad in pairs), 3),
        "platform_per_s": [round(good[0]) for good, _ in pairs],
        "hostile_per_s": [round(bad[0]) for _, bad in pairs],
        "because": pairs[-1][1][2],
    }


def _act() -> Act:
    return Act(event_id=new_id("evt"), at=datetime.now(UTC), by="bench")


def main() -> None:
    """Measure as asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tasks", type=int, nargs="?", default=30_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    asyncio.run(measure(given.tasks, given.rounds))


if __name__ == "__main__":
    main()
