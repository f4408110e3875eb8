"""What the chaos driver does with those that are slow to read: an arm, and the registry."""

import asyncio
import signal
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final

import psycopg
from nats.aio.client import Client as NATS

from octarm.clients.arm_registry import ArmRegistryClient
from octarm.models.errors import OctarmError
from octarm.models.subjects import HEARTBEAT
from tests.chaos.faults import Plan, Storm, connected
from tests.support.crashing_arm import NAME
from tests.support.wait import wait_until

SLEEPER: Final = "sleeper"
SLOTS: Final = 5
NAP_S: Final = 4.0
NAPS: Final = 25
SPELL_S: Final = 20.0
TURNS: Final = 3
LOOK_S: Final = 0.2
FLOOD_EVERY_S: Final = 0.05
FLOOD: Final = 100
MORE_AT_MOST: Final = 1.10
_UNDER_WAY: Final = """
    select count(*) from ledger.task where arm_id = %s and state in ('dispatched', 'running')
"""


class Spells:
    """How long the tasks of the load took in spells of one kind; not those of the sleeper."""

    def __init__(self, storm: Storm) -> None:
        self._load = storm.wind.load
        self._p99s: list[float] = []
        self.sleepers: set[str] = set()

    async def during(self, work: Callable[[], Awaitable[None]]) -> None:
        """Count what is handed in while `work` is done."""
        began = time.monotonic()
        await work()
        until = time.monotonic()
        load = self._load
        ids = {one for one, at in load.began.items() if began <= at < until} - self.sleepers
        await wait_until(lambda: ids <= load.ended.keys())
        took_s = sorted(load.ended[one] - load.began[one] for one in ids)
        self._p99s.append(took_s[int(len(took_s) * 0.99)])

    @property
    def p99_s(self) -> float:
        """What one in a hundred took longer than: the median of the spells, as others are here."""
        return statistics.median(self._p99s)


async def slow(storm: Storm) -> None:
    """An arm of five slots sleeps on its work; then the registry stands still under many beats.

    Quiet spells lie between, to compare with: others use the machine too.
    """
    quiet, busy, stalled, most = Spells(storm), Spells(storm), Spells(storm), 0
    async with connected(storm) as nc:
        for _ in range(TURNS):
            await quiet.during(partial(asyncio.sleep, SPELL_S))
            async with storm.wind.fault(f"an arm of {SLOTS} slots gets {NAPS} tasks of {NAP_S} s"):
                asked = {"assigned_arm": SLEEPER, "context": {"nap_s": NAP_S, "fails": 0}}
                naps = await storm.wind.load.submit(NAPS, **asked)
                busy.sleepers |= {task.id for task in naps}
                seen: list[int] = []
                await busy.during(partial(_watch, storm.stage.stack.urls.postgres, seen))
                most = max(most, *seen)
            async with storm.wind.fault("SIGSTOP arm-registry under a flood of beats"):
                storm.stage.signal("arm-registry", signal.SIGSTOP)
                try:
                    await stalled.during(partial(_flood, nc))
                finally:
                    storm.stage.signal("arm-registry", signal.SIGCONT)
            await wait_until(partial(_answers, nc), 60)
            await wait_until(lambda: busy.sleepers <= storm.wind.load.ended.keys(), 90)
    storm.wind.promise("at the sleeper", f"{most} attempts at most", 0 < most <= SLOTS)
    for what, spells in (("beside the sleeper", busy), ("beside the registry", stalled)):
        ratio = spells.p99_s / quiet.p99_s
        figure = f"p99 {spells.p99_s * 1000:.0f} ms, x {ratio:.2f} of that in quiet spells"
        storm.wind.promise(what, figure, ratio <= MORE_AT_MOST)


async def _watch(url: str, seen: list[int]) -> None:
    """Note how many attempts are under way at the sleeper, as the ledger has it."""
    until = time.monotonic() + SPELL_S
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        while time.monotonic() < until:
            row = await (await connection.execute(_UNDER_WAY, [SLEEPER])).fetchone()
            seen.append(row[0] if row else 0)
            await asyncio.sleep(LOOK_S)


async def _flood(nc: NATS) -> None:
    """Beats of an instance that nobody knows, two thousand a second."""
    until, subject = time.monotonic() + SPELL_S, HEARTBEAT.at(arm_id=NAME, instance_id="i-flood")
    while time.monotonic() < until:
        for _ in range(FLOOD):
            await nc.publish(subject, b'{"arm_id":"crasher","instance_id":"i-flood"}')
        await asyncio.sleep(FLOOD_EVERY_S)


async def _answers(nc: NATS) -> bool:
    with suppress(OctarmError):
        return (await ArmRegistryClient(nc).get(NAME)).status == "online"
    return False


SLOW_PLANS: Final[dict[str, Plan]] = {
    "slow-consumer": Plan(
        scenario=slow,
        context={"nap_s": 0.05, "fails": 0},
        arms={SLEEPER: {"CHAOS_ARM": SLEEPER, "CHAOS_SLOTS": str(SLOTS)}},
    ),
}
