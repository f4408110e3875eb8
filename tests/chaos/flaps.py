"""What the chaos driver does to the signs of life of an arm."""

import asyncio
import json
import signal
import time
from collections import Counter
from contextlib import suppress
from typing import Final

from nats.aio.client import Client as NATS
from nats.aio.msg import Msg

from octarm.clients.arm_registry import ArmRegistryClient
from octarm.models import subjects as s
from octarm.models.errors import OctarmError
from tests.chaos.faults import Plan, Storm, connected
from tests.support.wait import wait_until

FLAPPER: Final = "flapper"
LOST: Final = 0.2
COLLECTION_S: Final = 3.0
TURN_S: Final = 10.0
BEAT_S: Final = 5.0
# Three beats, and the half second after which the registry looks again.
DEAD_WITHIN_S: Final = 15.5


async def flap(storm: Storm) -> None:
    """An arm over a wire that loses 20 %, which stands still for 3 s at times; NATS dies twice.

    Nobody may say meanwhile that it was gone. Then it is, and that is to be said in time.
    """
    stage, flips = storm.stage, Counter[str]()
    turns = max(2, round(storm.seconds / TURN_S))
    async with connected(storm) as nc:

        async def heard(msg: Msg) -> None:
            flips[str(json.loads(msg.data)["status"])] += 1

        await nc.subscribe(s.ARM_EVENT.matching(arm_id=FLAPPER), cb=heard)
        for turn in range(turns):
            await storm.wind.load.submit(20, assigned_arm=FLAPPER, context={"nap_s": 0.5})
            async with storm.wind.fault(f"SIGSTOP {FLAPPER} for {COLLECTION_S:.0f} s"):
                stage.signal(FLAPPER, signal.SIGSTOP)
                await asyncio.sleep(COLLECTION_S)
                stage.signal(FLAPPER, signal.SIGCONT)
            if turn in (turns // 3, 2 * turns // 3):
                async with storm.wind.fault("kill -9 nats"):
                    stage.stack.kill("nats")
            await asyncio.sleep(TURN_S - COLLECTION_S)
        await wait_until(lambda: nc.is_connected)
        storm.wind.promise("said to be down", f"{flips['offline']} times", not flips["offline"])
        await _true_death(storm, nc)


async def _true_death(storm: Storm, nc: NATS) -> None:
    registry, began = ArmRegistryClient(nc), time.monotonic()

    async def offline() -> bool:
        with suppress(OctarmError):
            return (await registry.get(FLAPPER)).status == "offline"
        return False

    async with storm.wind.fault(f"SIGSTOP {FLAPPER} until it is said to be down"):
        storm.stage.signal(FLAPPER, signal.SIGSTOP)
        await wait_until(offline)
        took_s = time.monotonic() - began
        storm.stage.signal(FLAPPER, signal.SIGCONT)
    storm.wind.promise("true death told", f"after {took_s:.1f} s", took_s <= DEAD_WITHIN_S)
    await asyncio.sleep(TURN_S)


FLAP_PLANS: Final[dict[str, Plan]] = {
    "heartbeat-flap": Plan(
        scenario=flap,
        seconds=600.0,
        rate=20,
        env={"OCTARM_HEARTBEAT_S": str(BEAT_S)},
        arms={FLAPPER: {"CHAOS_ARM": FLAPPER, "CHAOS_LOSES": str(LOST)}},
    ),
}
