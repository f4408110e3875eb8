"""Leases: renewed in batches, and nobody is judged silent by one who was deaf."""

import asyncio
from collections.abc import Sequence

from octarm.common.bus.topology import HANDED_ON_S
from octarm.common.testing import FakeClock
from octarm.models.errors import Unavailable
from octarm.models.hot import Heartbeat, RunningAttempt
from octarm.models.ids import new_id
from octarm.orchestrator.usecases.leases import FIRST_GRACE_S, KeepLeases
from tests.support.wait import wait_until

TASK = new_id("tsk")


class RecordingRenewals:
    def __init__(self) -> None:
        self.renewed: list[tuple[str, int, str, float]] = []
        self.away = False

    async def renew(self, running: Sequence[tuple[str, int, str, float]]) -> None:
        if self.away:
            raise Unavailable("Postgres is away")
        self.renewed += running


def a_beat(*tasks: str, interval_s: float = 5.0) -> Heartbeat:
    return Heartbeat(
        arm_id="one",
        instance_id="i-1",
        seq=1,
        status="ready",
        slots=4,
        running=[RunningAttempt(task_id=task, attempt=2) for task in tasks],
        interval_s=interval_s,
    )


async def test_renews_what_the_beats_list_for_three_beats() -> None:
    ledger = RecordingRenewals()
    leases = KeepLeases(ledger, FakeClock())

    await leases(a_beat(TASK))
    await leases(a_beat(TASK))
    await leases.renew()
    await leases.renew()

    assert ledger.renewed == [(TASK, 2, "one", 15.0)]


async def test_a_ledger_that_is_away_costs_one_renewal_only() -> None:
    ledger = RecordingRenewals()
    leases = KeepLeases(ledger, FakeClock())

    ledger.away = True
    await leases(a_beat(TASK))
    await leases.renew()
    ledger.away = False
    await leases(a_beat(TASK))
    await leases.renew()

    assert len(ledger.renewed) == 1


async def test_judges_nobody_before_beats_and_old_results_came_after_start_or_outage() -> None:
    clock, connected = FakeClock(), True
    leases = KeepLeases(RecordingRenewals(), clock, lambda: connected)

    assert not leases.hears_beats()
    clock.advance(FIRST_GRACE_S)
    assert not leases.hears_beats()
    clock.advance(1)
    assert leases.hears_beats()
    connected = False
    assert not leases.hears_beats()
    connected = True
    await leases(a_beat(interval_s=1.0))
    clock.advance(HANDED_ON_S)
    assert not leases.hears_beats()
    clock.advance(3)
    assert leases.hears_beats()


async def test_renews_all_the_time_until_it_is_to_stop() -> None:
    ledger, stop = RecordingRenewals(), asyncio.Event()
    leases = KeepLeases(ledger, FakeClock())
    running = asyncio.create_task(leases.run(stop))

    await leases(a_beat(TASK))
    await wait_until(lambda: ledger.renewed)
    stop.set()

    await running
