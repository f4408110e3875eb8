"""What hostile scripts cost: throughput from the moment that one is deployed, on the real stack.

Run: python -m bench.hostile [tasks] [--rounds N] [--script NAME …]; a JSON line for each script
comes out. Rounds with and without it take turns, and medians of pairs are given. A script is
deployed while tasks come; what became of it is told, too. To start its processes and to fail
thrice costs the same however long a round is: some six seconds by default, so that all nine
scripts take about seven minutes.

`throughput` compares rounds by the wall clock and `cpu` by the processor time of all processes.
Two rounds of the same kind differ by 20 to 40 % in both, so neither can tell a tenth. What can is
`share`: a script can only cost what the scheduler and the processes of policies, its children,
use more (`extra_s`, processor seconds), and `share` is what is left of a round's processor time.
`children_s` of it is counted exactly, by the system, for the processes of policies alone.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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


@dataclass(frozen=True, slots=True)
class Round:
    """Tasks a second; processor seconds of all, of the scheduler alone, of its children."""

    per_s: float
    all_s: float
    scheduler_s: float
    children_s: float
    because: str = ""


class Stand:
    """A stack under load, its policies, and what its processes have used."""

    def __init__(
        self, client: Client, store: PolicyStore, pids: Callable[[], Mapping[str, int]]
    ) -> None:
        self._client = client
        self._store = store
        self._pids = pids

    async def round(self, count: int) -> Round:
        """Run tasks; gives what it took."""
        before = self._used_s()
        rate = await throughput(self._client, count)
        all_s, scheduler_s, children_s = (
            after - at for after, at in zip(self._used_s(), before, strict=True)
        )
        return Round(rate, all_s, scheduler_s, children_s)

    async def hostile_round(self, count: int, source: str) -> Round:
        """The same with a script that is deployed while tasks come; and what became of it.

        Until it is taken back its processes are counted, also those of the tasks that that takes.
        """
        before = self._used_s()
        deploying = asyncio.create_task(self._deploy(source))
        found = await self.round(count)
        await deploying
        because = await self._taken_back()
        children_s = self._used_s()[2] - before[2]
        return replace(found, children_s=children_s, because=because)

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

    def _used_s(self) -> tuple[float, float, float]:
        """Give what all, the scheduler alone and its children, living or not, have used."""
        pids = self._pids()
        of_all = {role: psutil.Process(pid).cpu_times() for role, pid in pids.items()}
        scheduler = of_all["scheduler"]
        ended_s = scheduler.children_user + scheduler.children_system
        living_s = sum(map(_own_s, psutil.Process(pids["scheduler"]).children()))
        own_s = sum(it.user + it.system for it in of_all.values())
        return own_s, scheduler.user + scheduler.system, ended_s + living_s


def _own_s(process: psutil.Process) -> float:
    try:
        return float(sum(process.cpu_times()[:2]))
    except psutil.NoSuchProcess:
        return 0.0  # It is counted with those that have ended at the next look.


async def measure(count: int, rounds: int, names: Sequence[str]) -> None:
    """Measure these scripts, and print a line for each."""
    arms = {"noop": (sys.executable, "-m", "bench.noop_arm")}
    with tempfile.TemporaryDirectory(prefix="octarm-hostile-") as folder:
        async with (
            running_stack(Path(folder), extra_arms=arms, env=ENV) as stack,
            Client(stack.urls.nats) as client,
            connected_to(stack.urls.nats, name="bench") as nc,
        ):
            publisher = Publisher(nc)
            stand = Stand(client, PolicyStore(nc, publisher), stack.pids)
            await stand.round(min(count, 2000))
            for kind in names:
                source = f"def schedule(ctx):\n    {HOSTILE[kind]}\n    return []\n"
                found = await _pairs(stand, source, count, rounds)
                print(json.dumps({"script": kind} | found), flush=True)
            await publisher.close()


async def _pairs(stand: Stand, source: str, count: int, rounds: int) -> dict[str, object]:
    pairs: list[tuple[Round, Round]] = []
    for number in range(rounds):
        if number % 2:
            hostile, platform = await stand.hostile_round(count, source), await stand.round(count)
        else:
            platform, hostile = await stand.round(count), await stand.hostile_round(count, source)
        pairs.append((platform, hostile))
    extra_s = [bad.scheduler_s + bad.children_s - good.scheduler_s for good, bad in pairs]
    whole_s = [good.all_s for good, _ in pairs]
    return {
        "share": _median(whole / (whole + it) for whole, it in zip(whole_s, extra_s, strict=True)),
        "extra_s": _median(extra_s),
        "children_s": _median(bad.children_s for _, bad in pairs),
        "throughput": _median(bad.per_s / good.per_s for good, bad in pairs),
        "cpu": _median(good.all_s / (bad.all_s + bad.children_s) for good, bad in pairs),
        "platform_per_s": [round(good.per_s) for good, _ in pairs],
        "hostile_per_s": [round(bad.per_s) for _, bad in pairs],
        "because": pairs[-1][1].because,
    }


def _median(figures: Iterable[float]) -> float:
    return round(statistics.median(figures), 3)


def _act() -> Act:
    return Act(event_id=new_id("evt"), at=datetime.now(UTC), by="bench")


def main() -> None:
    """Measure as asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tasks", type=int, nargs="?", default=30_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--script", action="append", choices=HOSTILE)
    given = parser.parse_args()
    asyncio.run(measure(given.tasks, given.rounds, given.script or list(HOSTILE)))


if __name__ == "__main__":
    main()
