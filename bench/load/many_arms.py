"""A thousand arms and a hundred tenants: what heartbeats cost, and who gets how much.

What beats cost is the CPU of those who hear them with the fleet there, less what they took before.
For the shares all slots are taken, half of the tenants hand in a lot, then the others half as much,
and only then the slots are given free: who came first must not have more of what ends. At the end
as many other arms ask to be registered in the same moment.
"""

import asyncio
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Final

import nats

from bench.load.growth import a_fleet, idle
from bench.load.processes import own_processes
from bench.load.scenarios import Json, Stage
from bench.measure import settled
from octarm.clients.arm_registry import ArmRegistryClient
from octarm.models.arms import ArmCapability
from octarm.models.errors import OctarmError
from octarm.sdk import Client

ARMS: Final = 1_000
TENANTS: Final = 100
MANY, FEW = 100, 50
COUNTED: Final = 3_000
HELD_S: Final = 280.0
NAP_S: Final = 8.0
HEARERS: Final = ("arm-registry", "scheduler", "orchestrator", "nats")
MEASURED_S: Final = 20.0
SETTLED_S: Final = 10.0


async def many_arms(stage: Stage) -> Json:
    """Let arms of one slot beat every five seconds; then let all tenants ask for them at once."""
    pids = own_processes(stage.up["pids"])
    before = await idle(pids, MEASURED_S)
    began = time.monotonic()
    async with a_fleet(stage.up["nats"], ARMS, slots=1):
        online_s = round(time.monotonic() - began, 1)
        await asyncio.sleep(SETTLED_S)
        after = await idle(pids, MEASURED_S)
        cores = {role: round(after[role] - before[role], 4) for role in HEARERS}
        found: Json = {"arms": ARMS, "tenants": TENANTS, "online_s": online_s}
        found["heartbeat_cores"] = cores
        found["heartbeat_cores_in_all"] = round(sum(cores.values()), 4)
        print(found, file=sys.stderr, flush=True)
        found |= await _shares(stage.up["nats"])
    return found | await _storm(stage.up["nats"])


async def _storm(url: str) -> Json:
    """Let so many arms ask to be registered in the same moment, each once."""
    nc = await nats.connect(url)
    try:
        registry, began, took = ArmRegistryClient(nc), time.monotonic(), list[float]()

        async def register(number: int) -> None:
            name = f"storm-{number}"
            arm = ArmCapability(arm_id=name, name=name, capabilities=frozenset({"storm"}))
            with suppress(OctarmError):
                await registry.register(arm)
                took.append(time.monotonic() - began)

        await asyncio.gather(*(register(number) for number in range(ARMS)))
        return {"registered_with_first_try": len(took), "last_registered_s": round(max(took), 2)}
    finally:
        await nc.close()


async def _shares(url: str) -> Json:
    ended: Counter[str] = Counter()
    enough = asyncio.Event()

    def count(tenant: str, _: object) -> None:
        ended[tenant] += 1
        if ended.total() == COUNTED:
            enough.set()

    async with AsyncExitStack() as opened:
        first = await opened.enter_async_context(Client(url, "first"))
        held = await first.submit_many([_nap(HELD_S)] * ARMS, timeout=60)
        # Or who comes next gets, by right, what is left of the slots.
        await settled(first, "queued")
        for number in range(TENANTS):
            tenant = f"tenant-{number:03}"
            client = await opened.enter_async_context(Client(url, tenant))
            naps = [_nap(NAP_S)] * (MANY if number < TENANTS // 2 else FEW)
            for task in await client.submit_many(naps, timeout=60):
                task.fate.when_ended(partial(count, tenant))
        early = ended.total()
        for start in range(0, ARMS, 50):
            some = [task.cancel() for task in held[start : start + 50]]
            await asyncio.gather(*some, return_exceptions=True)
        async with asyncio.timeout(600):
            await enough.wait()
        shares = [ended[f"tenant-{number:03}"] for number in range(TENANTS)]
    return {
        "ended_while_handing_in": early,
        "least_share": min(shares),
        "greatest_share": max(shares),
        "greatest_to_least": round(max(shares) / max(1, min(shares)), 3),
    }


def _nap(seconds: float) -> Json:
    return {"goal": "nap", "required_capabilities": ["noop"], "context": {"seconds": seconds}}
