"""Policies on the real stack: what a flood of one tenant costs another, what hostile scripts cost.

Run: python -m bench.deployed flood [tasks] | hostile [tasks]; one JSON line comes out. `flood`
submits that many tasks of one tenant to twenty slots and measures what another waits, alone and
then beside them. `hostile` measures throughput under the platform's policy, then while a script
that never ends, or wants all memory, is deployed again each time that it was taken back.
"""

import asyncio
import json
import random
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psycopg

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

NAP_S: Final = (0.02, 0.08)
PROBES: Final = 100
EVERY_S: Final = 0.1
LATER_S: Final = 5.0
ENV: Final = {"OCTARM_TRACE_SAMPLE": "0", "OCTARM_LOG_LEVEL": "error"}
HOSTILE: Final = (
    "def schedule(ctx):\n    for i in range(1 << 30):\n        pass\n",
    "def schedule(ctx):\n    x = [0]\n    for i in range(64):\n        x += x\n    return []\n",
    "def schedule(ctx):\n    for i in range(1 << 20):\n        print('x' * 1024)\n",
    "def schedule(ctx):\n    fail('on purpose')\n",
)
WAITED: Final = """
    select percentile_cont(array[0.5, 0.95]) within group (
        order by extract(epoch from a.placed_at - t.created_at) * 1000)
    from ledger.attempt a join ledger.task t on t.id = a.task_id
    where t.tenant = %s and t.created_at between %s and %s
"""


async def flood(count: int) -> dict[str, object]:
    """Give the milliseconds from acceptance to placing that a tenant waits, alone and beside."""
    arms = {"napper": (sys.executable, "-m", "bench.nap_arm")}
    with tempfile.TemporaryDirectory(prefix="octarm-flood-") as folder:
        env = {**ENV, "OCTARM_POLICY": "fair_share"}
        async with running_stack(Path(folder), extra_arms=arms, env=env) as stack:
            async with Client(stack.urls.nats, "quiet") as quiet:
                alone = await _probe(quiet)
                async with Client(stack.urls.nats, "noisy") as noisy:
                    for _ in range(count // 1000):
                        await noisy.submit_many([_nap() for _ in range(1000)])
                    await asyncio.sleep(LATER_S)
                    beside = await _probe(quiet)
            with psycopg.connect(stack.urls.postgres) as ledger:
                found = [
                    [round(it, 1) for it in ledger.execute(WAITED, ("quiet", *when)).fetchone()[0]]  # type: ignore[index]
                    for when in (alone, beside)
                ]
                left = ledger.execute(
                    "select count(*) from ledger.task t where t.tenant = 'noisy' and not exists"
                    " (select 1 from ledger.attempt a where a.task_id = t.id)"
                ).fetchone()
    return {"alone_p50_p95_ms": found[0], "beside_p50_p95_ms": found[1], "noisy_left": left}


async def _probe(client: Client) -> tuple[datetime, datetime]:
    """Submit a task ten times a second and wait for all; gives when that began and ended."""
    began, tasks = datetime.now(UTC), []
    for _ in range(PROBES):
        tasks.append((await client.submit_many([_nap()]))[0])
        await asyncio.sleep(EVERY_S)
    ended = datetime.now(UTC)
    for task in tasks:
        await task.result(timeout=60)
    return began, ended


def _nap() -> dict[str, object]:
    """Naps of equal length would all end, and free their slots, at once."""
    seconds = random.uniform(*NAP_S)
    return {"goal": "nap", "required_capabilities": ["nap"], "context": {"seconds": seconds}}


async def hostile(count: int) -> dict[str, object]:
    """Give tasks a second, by turns without and with scripts that fail in every cycle."""
    arms = {"noop": (sys.executable, "-m", "bench.noop_arm")}
    with tempfile.TemporaryDirectory(prefix="octarm-hostile-") as folder:
        async with (
            running_stack(Path(folder), extra_arms=arms, env=ENV) as stack,
            Client(stack.urls.nats) as client,
            connected_to(stack.urls.nats, name="bench") as nc,
        ):
            publisher = Publisher(nc)
            store = PolicyStore(nc, publisher)
            rates: dict[str, list[int]] = {"platform": [], "hostile": []}
            await throughput(client, 2000)
            deployed = 0
            for _ in range(3):
                rates["platform"].append(round(await throughput(client, count)))
                deploying = asyncio.create_task(_deploy_again_and_again(store))
                rates["hostile"].append(round(await throughput(client, count)))
                deploying.cancel()
                await asyncio.wait({deploying})
                deployed = len((await store.book()).deployments)
            await publisher.close()
    best = max(rates["hostile"]) / max(rates["platform"])
    return {**rates, "ratio_of_best": round(best, 3), "changes": deployed}


async def _deploy_again_and_again(store: PolicyStore) -> None:
    number = 0
    while True:
        source = HOSTILE[number % len(HOSTILE)]
        number += 1
        await store.save(SavePolicy(name="bad", kind="starlark", source=source, by="b"), _act())
        await store.deploy(digest(source), _act())
        while (await store.book()).live is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def _act() -> Act:
    return Act(event_id=new_id("evt"), at=datetime.now(UTC), by="bench")


def main() -> None:
    """Run one of them."""
    what, *rest = sys.argv[1:]
    run = {"flood": flood, "hostile": hostile}[what]
    print(json.dumps(asyncio.run(run(int(rest[0]) if rest else 20_000))))


if __name__ == "__main__":
    main()
