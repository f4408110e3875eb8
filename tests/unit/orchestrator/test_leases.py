"""Leases: renewed in batches, and nobody is judged silent by one who was deaf."""

import asyncio
from collections.abc import Sequence

from octarm.common.bus.topology import HANDED_ON_S
from octarm.common.testing import FakeClock
from octarm.models.errors import Unavailable
from octarm.models.hot import Heartbeat, RunningAttempt
from octarm.models.ids import new_id
from octarm.orchestrator.usecases.leases import FIRST_GRACE_S, LOOK_BACK_S, KeepLeases, Running
from tests.support.ledger import Revoked
from tests.support.wait import wait_until

TASK = new_id("tsk")


class RecordingRenewals:
    def __init__(self) -> None:
        self.renewed: list[tuple[str, int, str, float]] = []
        self.away = False
        self.asked: list[list[Running]] = []
        self.gone: set[str] = set()

    async def renew(self, running: Sequence[tuple[str, int, str, float]]) -> None:
        if self.away:
            raise Unavailable("Postgres is away")
        self.renewed += running

    async def superseded(self, running: Sequence[Running]) -> list[Running]:
        if self.away:
            raise Unavailable("Postgres is away")
        self.asked.append(list(running))
        return [attempt for attempt in running if attempt[0] in self.gone]


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
    leases = KeepLeases(ledger, FakeClock(), Revoked())

    await leases(a_beat(TASK))
    await leases(a_beat(TASK))
    await leases.renew()
    await leases.renew()

    assert ledger.renewed == [(TASK, 2, "one", 15.0)]


async def test_a_ledger_that_is_away_costs_one_renewal_only() -> None:
    ledger = RecordingRenewals()
    leases = KeepLeases(ledger, FakeClock(), Revoked())

    ledger.away = True
    await leases(a_beat(TASK))
    await leases.renew()
    ledger.away = False
    await leases(a_beat(TASK))
    await leases.renew()

    assert len(ledger.renewed) == 1


async def test_judges_nobody_before_beats_and_old_results_came_after_start_or_outage() -> None:
    clock, connected = FakeClock(), True
    leases = KeepLeases(RecordingRenewals(), clock, Revoked(), lambda: connected)

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
    leases = KeepLeases(ledger, FakeClock(), Revoked())
    running = asyncio.create_task(leases.run(stop))

    await leases(a_beat(TASK))
    await wait_until(lambda: ledger.renewed)
    stop.set()

    await running


class TestLookingBack:
    async def test_revokes_again_what_still_runs_though_the_ledger_has_gone_on(self) -> None:
        ledger, revoked = RecordingRenewals(), Revoked()
        leases = KeepLeases(ledger, FakeClock(), revoked)
        other = new_id("tsk")
        ledger.gone = {TASK}

        for _ in range(3):
            await leases(a_beat(TASK, other))
            await leases.renew()
            await leases.look_back()

        assert [(it.task_id, it.attempt, it.arm_id) for it in revoked] == [(TASK, 2, "one")] * 2

    async def test_asks_about_nothing_that_runs_for_a_moment(self) -> None:
        ledger = RecordingRenewals()
        leases = KeepLeases(ledger, FakeClock(), Revoked())

        for task in (TASK, new_id("tsk"), new_id("tsk")):
            await leases(a_beat(task))
            await leases.renew()
            await leases.look_back()

        assert ledger.asked == []

    async def test_asks_a_ledger_that_was_away_the_next_time(self) -> None:
        ledger, revoked = RecordingRenewals(), Revoked()
        leases = KeepLeases(ledger, FakeClock(), revoked)
        ledger.gone = {TASK}

        for away in (False, True, False):
            ledger.away = away
            await leases(a_beat(TASK))
            await leases.renew()
            await leases.look_back()

        assert len(revoked) == 1

    async def test_looks_back_by_itself_now_and_then(self) -> None:
        ledger, clock, stop = RecordingRenewals(), FakeClock(), asyncio.Event()
        leases = KeepLeases(ledger, clock, Revoked())
        running = asyncio.create_task(leases.run(stop))

        while not ledger.asked:
            await leases(a_beat(TASK))
            clock.advance(LOOK_BACK_S)
            await wait_until(lambda: ledger.renewed)
            ledger.renewed.clear()
        stop.set()

        await running
