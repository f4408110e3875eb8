"""What scripts are shown of tenants: asked of the ledger beside the cycles, kept for a while."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import cast

from octarm.common.testing.fakes import FakeClock
from octarm.models.errors import Unavailable
from octarm.models.usage import TenantUsage, UsageFound
from octarm.policies.queue.heard import NO_LIMITS, Account
from octarm.scheduler.usecases.accounts import FRESH_S, SOON_S, KeepAccounts
from octarm.scheduler.usecases.desk import Desk
from tests.support.scheduling import a_desk, facts


class FakeLedger:
    """Every tenant has spent 7 so far; the clock says which day it is."""

    def __init__(self, desk: Desk) -> None:
        self.asked: list[list[str]] = []
        self.down = False
        self._desk = desk

    async def usage(self, tenants: Sequence[str]) -> UsageFound:
        self.asked.append(list(tenants))
        if self.down:
            raise Unavailable("no ledger", retry_after_s=1)
        now: datetime = self._desk.clock.now()
        since = now.replace(hour=0, minute=0, second=0, microsecond=0)
        found = [TenantUsage(tenant=it, microdollars=7, max_in_flight=3) for it in tenants]
        return UsageFound(since=since, read_at=now, tenants=found)


def a_stage() -> tuple[Desk, FakeLedger, KeepAccounts]:
    desk = a_desk(facts("one"), slots=3)
    ledger = FakeLedger(desk)
    return desk, ledger, KeepAccounts(desk, ledger)


def advance(desk: Desk, seconds: float) -> None:
    cast(FakeClock, desk.clock).advance(seconds)


async def shown(keep: KeepAccounts, *tenants: str) -> None:
    keep(tenants)
    for _ in range(5):
        await asyncio.sleep(0)


async def test_they_are_asked_for_once_and_kept_for_some_seconds() -> None:
    desk, ledger, keep = a_stage()

    await shown(keep, "acme")
    advance(desk, FRESH_S - 0.1)
    await shown(keep, "acme")

    assert ledger.asked == [["acme"]]
    account = desk.recent.accounts["acme"]
    assert (account.spent_today, account.limits.running) == (7, 3)
    advance(desk, 0.2)
    await shown(keep, "acme")
    assert len(ledger.asked) == 2


async def test_a_tenant_that_is_new_is_asked_for_soon_but_not_in_every_cycle() -> None:
    desk, ledger, keep = a_stage()

    await shown(keep, "acme")
    await shown(keep, "acme", "beta")
    assert ledger.asked == [["acme"]]
    advance(desk, SOON_S)
    await shown(keep, "acme", "beta")

    assert ledger.asked[1:] == [["acme", "beta"]]


async def test_without_an_answer_what_was_known_stays() -> None:
    desk, ledger, keep = a_stage()
    await shown(keep, "acme")
    ledger.down = True

    advance(desk, FRESH_S)
    await shown(keep, "acme")

    assert len(ledger.asked) == 2
    assert desk.recent.accounts["acme"].spent_today == 7


async def test_what_was_spent_does_not_count_on_the_next_day() -> None:
    desk, ledger, keep = a_stage()
    await shown(keep, "acme")
    ledger.down = True

    advance(desk, timedelta(days=1).total_seconds())
    await shown(keep, "acme")

    assert desk.recent.accounts.get("acme", Account()) == Account(NO_LIMITS, 0, 0)


async def test_nobody_is_asked_about_nobody_and_nothing_is_left_behind() -> None:
    _, ledger, keep = a_stage()

    await shown(keep)
    keep(["acme"])
    await keep.aclose()
    await keep.aclose()

    assert ledger.asked in ([], [["acme"]])
