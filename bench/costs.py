"""What policies make a load cost: in the simulator, and on the real stack with the same tasks.

Run: python -m bench.costs [LOAD.toml] [--seconds N] [--seed N]
By default `priority` and the cost optimiser of `libraries/policies` place a minute of tasks. The
real stack runs an arm for each of the load's, which take the time that the tasks ask for and book
their price; it takes two minutes and a half. A table comes out, and the differences.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
import psycopg
from rich.console import Console
from rich.table import Table

from octarm.cli.stack.supervisor import Stack, running_stack
from octarm.policies.builtin import BUILTIN
from octarm.policies.queue.tasks import TIERS
from octarm.policies.simulator.deciders import decider
from octarm.policies.simulator.jobs import Job, generated
from octarm.policies.simulator.load import Load, read
from octarm.policies.simulator.world import simulated
from octarm.sdk import Client, Task

LIBRARY: Final = Path(__file__).parents[1] / "libraries" / "policies"
LOAD: Final = LIBRARY / "loads" / "minute_of_costs.toml"
OPTIMISER: Final = LIBRARY / "cost_optimiser.star"
PLATFORM: Final = "priority"
ENV: Final = {"OCTARM_TRACE_SAMPLE": "0", "OCTARM_LOG_LEVEL": "error", "OCTARM_POLICY": PLATFORM}
GIVE_UP_S: Final = 300.0
ENDED: Final = """
    select count(*) filter (where t.state = 'completed'),
        avg((t.state = 'completed' and a.ended_at <= t.deadline)::int)
            filter (where t.deadline is not null)::float8,
        sum(a.cost_microdollars)::float8,
        percentile_cont(0.95) within group (
            order by extract(epoch from a.placed_at - t.created_at))::float8,
        array_agg(distinct a.decision ->> 'policy')
    from ledger.task t left join ledger.attempt a on a.task_id = t.id
    where t.id = any(%s)
"""


class Figures(msgspec.Struct, frozen=True):
    """What became of the load under one policy; `where` is the simulator or the stack."""

    policy: str
    where: str
    done: int
    in_time: float
    cost_microdollars: float
    wait_p95_s: float
    decided_by: tuple[str, ...] = ()


def in_the_simulator(load: Load, seed: int) -> list[Figures]:
    """Give the figures of both policies."""
    found = []
    for policy in (BUILTIN[PLATFORM], decider(str(OPTIMISER))):
        outcome = simulated(load, policy, generated(load, seed), seed)
        total = outcome.total
        in_time = total.deadline_hit_rate
        assert in_time is not None, "the load has deadlines"
        found.append(
            Figures(
                outcome.policy,
                "simulated",
                total.completed,
                in_time,
                outcome.cost,
                total.wait_p95_s,
            )
        )
    return found


async def on_the_stack(load_file: Path, load: Load, seed: int) -> list[Figures]:
    """Give the figures of both policies; each of them places the same tasks at the same times."""
    jobs = list(generated(load, seed))
    with tempfile.TemporaryDirectory(prefix="octarm-costs-") as folder:
        async with running_stack(Path(folder), extra_arms=arms(load_file), env=ENV) as stack:
            found = [await _figures(stack, PLATFORM, await submitted(stack, jobs))]
            async with Client(stack.urls.nats) as client:
                saved = await client.policies.save("cost-optimiser", OPTIMISER.read_text())
                await client.policies.deploy(saved.policy.digest)
            # The scheduler follows within a tenth of a second.
            await asyncio.sleep(1)
            found.append(await _figures(stack, "cost-optimiser", await submitted(stack, jobs)))
            return found


def arms(load_file: Path) -> dict[str, Sequence[str]]:
    """Give the command of each arm of a load."""
    found: dict[str, Sequence[str]] = {}
    for pool in read(load_file).arms:
        for number in range(1, pool.count + 1):
            name = pool.id if pool.count == 1 else f"{pool.id}-{number}"
            command = (sys.executable, "-m", "bench.priced_arm", str(load_file), pool.id, name)
            found[name] = command
    return found


async def submitted(stack: Stack, jobs: Sequence[Job]) -> list[str]:
    """Submit each task when it is due and wait until all have ended; gives their ids."""
    clock = asyncio.get_running_loop().time
    async with AsyncExitStack() as clients:
        of_tenant = {
            tenant: await clients.enter_async_context(Client(stack.urls.nats, tenant))
            for tenant in sorted({job.kind.tenant for job in jobs})
        }
        tasks: list[Task] = []
        began = clock()
        for job in jobs:
            await asyncio.sleep(max(began + job.at_s - clock(), 0))
            tasks += await of_tenant[job.kind.tenant].submit_many([_submission(job)])
        async with asyncio.timeout(GIVE_UP_S):
            await asyncio.gather(*(task.wait() for task in tasks))
    return [task.id for task in tasks]


def _submission(job: Job) -> dict[str, object]:
    kind = job.kind
    submission: dict[str, object] = {
        "goal": "work",
        "required_capabilities": sorted(kind.needs),
        "priority": kind.priority,
        "tier": TIERS[kind.tier],
        "labels": job.labels,
        "timeout_seconds": 120,
        "context": {"work_s": job.work_s},
    }
    if kind.deadline_s is not None:
        submission["deadline"] = datetime.now(UTC) + timedelta(seconds=kind.deadline_s)
    return submission


async def _figures(stack: Stack, policy: str, task_ids: list[str]) -> Figures:
    with psycopg.connect(stack.urls.postgres) as ledger:
        row = ledger.execute(ENDED, (task_ids,)).fetchone()
    assert row is not None
    done, in_time, cost, wait_s, by = row
    return Figures(policy, "real stack", done, in_time, cost, wait_s, tuple(filter(None, by)))


def differences(simulation: Sequence[Figures], stack: Sequence[Figures]) -> dict[str, float]:
    """Say how cost on the stack differs from the simulated, and what share of it is left."""
    costs = [[it.cost_microdollars for it in some] for some in (simulation, stack)]
    left = [optimised / platform for platform, optimised in costs]
    return {
        "left_simulated": left[0],
        "left_on_the_stack": left[1],
        "platform_differs_by": costs[1][0] / costs[0][0] - 1,
        "optimiser_differs_by": costs[1][1] / costs[0][1] - 1,
    }


def show(figures: Sequence[Figures], found: dict[str, float]) -> None:
    """Print it for people."""
    table = Table("policy", "where", "done", "in time", "cost µ$", "wait p95 s")
    for it in figures:
        cells = (f"{it.done:,}", f"{it.in_time:.1%}", f"{it.cost_microdollars:,.0f}")
        table.add_row(it.policy, it.where, *cells, f"{it.wait_p95_s:.2f}")
    console = Console(width=110)
    console.print(table)
    console.print({name: f"{value:.1%}" for name, value in found.items()})


def shortened(load: Load, seconds: float | None) -> Load:
    """Let its tasks come for so long only."""
    return load if seconds is None else load.model_copy(update={"duration_s": seconds})


def main() -> None:
    """Simulate, run, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("load", nargs="?", type=Path, default=LOAD)
    parser.add_argument("--seconds", type=float, help="let tasks come for so long only")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    load = shortened(read(given.load), given.seconds)
    simulation = in_the_simulator(load, given.seed)
    stack = asyncio.run(on_the_stack(given.load, load, given.seed))
    show([*simulation, *stack], differences(simulation, stack))


if __name__ == "__main__":
    main()
