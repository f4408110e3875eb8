"""Beats that nobody should believe, on a real bus: dropped or turned away, and no lease grows."""

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from octarm.common.bus.connection import connected_to
from octarm.common.bus.flood import BEATS_PER_S, BURST
from octarm.common.clock import SystemClock
from octarm.models import hot
from octarm.models.ids import new_id
from octarm.models.subjects import HEARTBEAT
from octarm.orchestrator.routes import hear_heartbeats
from octarm.orchestrator.usecases.leases import KeepLeases, Running
from tests.support.wait import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.bad_input(12)]
TASK = new_id("tsk")


class Renewals:
    def __init__(self) -> None:
        self.renewed: list[tuple[str, int, str, float]] = []

    async def renew(self, running: Sequence[tuple[str, int, str, float]]) -> None:
        self.renewed += running

    async def superseded(self, running: Sequence[Running]) -> list[Running]:
        return []


async def revoke(_: object) -> None:
    """Nothing is superseded."""


class CountingLeases(KeepLeases):
    heard = 0

    async def __call__(self, beat: hot.Heartbeat) -> None:
        self.heard += 1
        await super().__call__(beat)


def a_beat(instance_id: str = "i-1", **fields: object) -> bytes:
    beat = {
        "arm_id": "one",
        "instance_id": instance_id,
        "seq": 1,
        "status": "ready",
        "slots": 4,
        "running": [{"task_id": TASK, "attempt": 1}],
    }
    return msgspec.json.encode(beat | fields)


async def test_a_flood_costs_only_the_one_that_floods(nats_url: str) -> None:
    leases = CountingLeases(Renewals(), SystemClock(), revoke)
    loud, quiet = (HEARTBEAT.at(arm_id="one", instance_id=name) for name in ("i-1", "i-2"))
    async with connected_to(nats_url, name="test") as nc:
        await hear_heartbeats(nc, leases, clock=SystemClock())
        loop = asyncio.get_running_loop()
        began = loop.time()

        for _ in range(10_000):
            await nc.publish(loud, a_beat())
        await nc.publish(quiet, a_beat("i-2", running=[{"task_id": TASK, "attempt": 7}]))

        await wait_until(lambda: (TASK, 7, "one") in leases._running, timeout_s=20)
        assert leases.heard <= BURST + BEATS_PER_S * (loop.time() - began) + 1


async def test_figures_that_make_no_sense_renew_nothing(nats_url: str) -> None:
    renewals = Renewals()
    leases = KeepLeases(renewals, SystemClock(), revoke)
    bad = [
        a_beat(slots=-1),
        a_beat(slots=10**9),
        a_beat(load=-0.1),
        a_beat().replace(b'"seq":1', b'"seq":1,"load":NaN'),
        a_beat(interval_s=0),
        a_beat(interval_s=10**9),
        a_beat(seq=2**63),
        a_beat(running=[{"task_id": "tsk_*", "attempt": 1}]),
        a_beat(running=[{"task_id": TASK, "attempt": 0}]),
        a_beat(running=[{"task_id": TASK, "attempt": 1}] * 10_001),
        b"",
        b"{",
        b"\xff",
    ]
    async with connected_to(nats_url, name="test") as nc:
        await hear_heartbeats(nc, leases, clock=SystemClock())
        for beat in bad:
            await nc.publish(HEARTBEAT.at(arm_id="one", instance_id="i-1"), beat)
        await nc.publish(HEARTBEAT.at(arm_id="two", instance_id="i-1"), a_beat())
        last = HEARTBEAT.at(arm_id="one", instance_id="good")
        await nc.publish(
            last, a_beat("good", running=[{"task_id": TASK, "attempt": 9}], interval_s=60)
        )

        await wait_until(lambda: (TASK, 9, "one") in leases._running, timeout_s=10)

    await leases.renew()
    assert renewals.renewed == [(TASK, 9, "one", 180.0)]
