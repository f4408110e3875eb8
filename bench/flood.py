"""What a flood of one tenant costs another under `fair_share`, on the real stack.

Run: python -m bench.flood [tasks] [--long] [--bursts] [--equal] [--keep-free SHARE]
[--catch-up ROUNDS]; one JSON line comes out.
A quiet tenant submits ten tasks a second to twenty slots: alone, while another submits its flood
as fast as it can, and while that waits. Waits count from asking to placing, acceptance included.

One task at a time never waits for a slot when alone, so that its wait is compared with the time
that placing takes: what keeps it short are slots that are kept free (--keep-free 0 keeps none).
With --bursts the tenant has work enough to wait for slots also alone: forty tasks, twice the
slots, at once. Half of the slots for twice as long is what two equal shares would give; what
keeps its wait short is that it may catch up on what it had not used (--catch-up 0: it may not).

Naps have mixed lengths, so that slots come free one after another. With --equal all take the
same time: they start and end together. They are short, so that the flood runs 400 of them a second,
and what is measured is above all how busy that makes the machine. With --long they take half a
second to a second on a hundred slots, as what calls a model does: then the policy is measured.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg

from octarm.cli.stack.supervisor import Stack, running_stack
from octarm.sdk import Client, Task

MIXED_S: Final = (0.02, 0.08)
EQUAL_S: Final = (0.05, 0.05)
LONG_S: Final = (0.5, 1.0)
SLOTS: Final = 20
LONG_SLOTS: Final = 100
PROBES: Final = 150
EVERY_S: Final = (0.05, 0.15)
BURSTS: Final = 50
BURST_EVERY_S: Final = (0.4, 0.8)
GIVE_UP_S: Final = 120.0
ENV: Final = {
    "OCTARM_TRACE_SAMPLE": "0",
    "OCTARM_LOG_LEVEL": "error",
    "OCTARM_POLICY": "fair_share",
}
PLACED: Final = """
    select task_id, extract(epoch from placed_at)::float8 from ledger.attempt
    where attempt = 1 and task_id = any(%s)
"""
LEFT: Final = """
    select count(*) from ledger.task t where t.tenant = 'noisy' and not exists
        (select 1 from ledger.attempt a where a.task_id = t.id)
"""
Asked = dict[str, float]


@dataclass(frozen=True, slots=True)
class Load:
    """How the quiet tenant works: `at_once` tasks `every_s` seconds, `times` times."""

    length_s: tuple[float, float]
    at_once: int
    times: int
    every_s: tuple[float, float]


class Quiet:
    """The tenant whose waits are measured."""

    def __init__(self, client: Client, load: Load) -> None:
        self._client = client
        self._load = load

    async def probe(self, goes_on: Callable[[int], bool]) -> Asked:
        """Submit every now and then while `goes_on`; gives when each task was asked for."""
        asked: Asked = {}
        tasks: list[Task] = []
        times = 0
        while goes_on(times):
            at = time.time()
            naps = [a_nap(self._load.length_s) for _ in range(self._load.at_once)]
            for task in await self._client.submit_many(naps, timeout=GIVE_UP_S):
                asked[task.id] = at
                tasks.append(task)
            times += 1
            # At even distances they would meet each round of equal naps at the same point.
            await asyncio.sleep(random.uniform(*self._load.every_s))
        for task in tasks:
            await task.result(timeout=GIVE_UP_S)
        return asked


def a_nap(length_s: tuple[float, float]) -> dict[str, object]:
    """A task for `bench.nap_arm`."""
    seconds = random.uniform(*length_s)
    return {"goal": "nap", "required_capabilities": ["nap"], "context": {"seconds": seconds}}


async def flooded(stack: Stack, count: int, load: Load) -> dict[str, object]:
    """Measure alone, while the flood comes, and while it waits."""
    async with (
        Client(stack.urls.nats, "quiet") as client,
        Client(stack.urls.nats, "noisy") as noisy,
    ):
        quiet = Quiet(client, load)
        await quiet.probe(lambda so_far: so_far < load.times // 5)
        alone = await quiet.probe(lambda so_far: so_far < load.times)
        began = time.perf_counter()
        coming = asyncio.create_task(_flood(noisy, count, load.length_s))
        while_it_comes = await quiet.probe(lambda _: not coming.done())
        await coming
        took_s = time.perf_counter() - began
        beside = await quiet.probe(lambda so_far: so_far < load.times)
    with psycopg.connect(stack.urls.postgres) as ledger:
        (left,) = ledger.execute(LEFT).fetchone() or (0,)
        phases = {"alone": alone, "while_it_comes": while_it_comes, "beside": beside}
        waits = {name: _waits_ms(ledger, asked) for name, asked in phases.items()}
    first = waits["alone"]["p95_ms"]
    ratios = {f"ratio_{name}": round(it["p95_ms"] / first, 2) for name, it in waits.items()}
    return {**waits, **ratios, "flood_came_in_s": round(took_s, 1), "flood_left": left}


async def _flood(noisy: Client, count: int, length_s: tuple[float, float]) -> None:
    for _ in range(count // 1000):
        await noisy.submit_many([a_nap(length_s) for _ in range(1000)], timeout=GIVE_UP_S)


def _waits_ms(ledger: psycopg.Connection[Any], asked: Asked) -> dict[str, float]:
    placed = ledger.execute(PLACED, (list(asked),)).fetchall()
    waits = sorted((at - asked[task_id]) * 1000 for task_id, at in placed)
    return {"p50_ms": _quantile(waits, 0.5), "p95_ms": _quantile(waits, 0.95), "n": len(waits)}


def _quantile(ordered: Sequence[float], share: float) -> float:
    return round(ordered[min(int(len(ordered) * share), len(ordered) - 1)], 1)


async def measure(
    count: int, load: Load, env: dict[str, str], slots: int = SLOTS
) -> dict[str, object]:
    """Measure on a stack of its own."""
    arms = {"napper": (sys.executable, "-m", "bench.nap_arm", str(slots))}
    with tempfile.TemporaryDirectory(prefix="octarm-flood-") as folder:
        async with running_stack(Path(folder), extra_arms=arms, env=ENV | env) as stack:
            return await flooded(stack, count, load)


def main() -> None:
    """Measure as asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tasks", type=int, nargs="?", default=50_000)
    parser.add_argument("--bursts", action="store_true", help="forty tasks at once, not one")
    lengths = parser.add_mutually_exclusive_group()
    lengths.add_argument("--equal", action="store_true", help="all naps take the same time")
    lengths.add_argument("--long", action="store_true", help="longer naps, more slots")
    parser.add_argument("--keep-free", type=float, help="share of slots, instead of the default")
    parser.add_argument("--catch-up", type=float, help="times all slots, instead of the default")
    given = parser.parse_args()
    length_s = EQUAL_S if given.equal else LONG_S if given.long else MIXED_S
    slots = LONG_SLOTS if given.long else SLOTS
    load = Load(length_s, 1, PROBES, EVERY_S)
    if given.bursts:
        load = Load(length_s, 2 * slots, BURSTS, BURST_EVERY_S)
    said = {"keep_free": given.keep_free, "catch_up": given.catch_up}
    env = {f"OCTARM_{name.upper()}": str(it) for name, it in said.items() if it is not None}
    found = asyncio.run(measure(given.tasks, load, env, slots))
    said |= {"bursts": given.bursts, "equal": given.equal, "long": given.long}
    print(json.dumps({**said, **found}))


if __name__ == "__main__":
    main()
