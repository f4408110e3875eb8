"""What scripts are shown of tenants: asked of the ledger beside the cycles, kept for a while."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta

from octarm.common.testing.fakes import FakeClock
from octarm.models.errors import Unavailable
from octarm.models.usage import TenantUsage, UsageFound
from octarm.policies.accounts import FRESH_S, SOON_S, Accounts
from octarm.policies.queue.heard import Account


class FakeLedger:
    """Every tenant has spent 7 so far; the clock says which day it is."""

    def __init__(self, clock: FakeClock) -> None:
        self.asked: list[list[str]] = []
        self.down = False
        self._clock = clock

    async def usage(self, tenants: Sequence[str]) -> UsageFound:
        self.asked.append(list(tenants))
        if self.down:
            raise Unavailable("no ledger", retry_after_s=1)
        now = self._clock.now()
        since = now.replace(hour=0, minute=0, second=0, microsecond=0)
        found = [TenantUsage(tenant=it, microdollars=7, max_in_flight=3) for it in tenants]
        return UsageFound(since=since, read_at=now, tenants=found)


def a_stage() -> tuple[FakeClock, FakeLedger, Accounts]:
    clock = FakeClock()
    ledger = FakeLedger(clock)
    return clock, ledger, Accounts(ledger.usage, now=clock.now, monotonic=clock.monotonic)


async def shown(accounts: Accounts, *tenants: str) -> Mapping[str, Account]:
    accounts(tenants)
    for _ in range(5):
        await asyncio.sleep(0)
    return accounts(())


async def test_they_are_asked_for_once_and_kept_for_some_seconds() -> None:
    clock, ledger, accounts = a_stage()

    await shown(accounts, "acme")
    clock.advance(FRESH_S - 0.1)
    account = (await shown(accounts, "acme"))["acme"]

    assert ledger.asked == [["acme"]]
    assert (account.spent_today, account.limits.running) == (7, 3)
    clock.advance(0.2)
    await shown(accounts, "acme")
    assert len(ledger.asked) == 2


async def test_a_tenant_that_is_new_is_asked_for_soon_but_not_in_every_cycle() -> None:
    clock, ledger, accounts = a_stage()

    await shown(accounts, "acme")
    await shown(accounts, "acme", "beta")
    assert ledger.asked == [["acme"]]
    clock.advance(SOON_S)
    await shown(accounts, "acme", "beta")

    assert ledger.asked[1:] == [["acme", "beta"]]


async def test_without_an_answer_what_was_known_stays() -> None:
    clock, ledger, accounts = a_stage()
    await shown(accounts, "acme")
    ledger.down = True

    clock.advance(FRESH_S)
    known = await shown(accounts, "acme")

    assert len(ledger.asked) == 2
    assert known["acme"].spent_today == 7


async def test_what_was_spent_does_not_count_on_the_next_day() -> None:
    clock, ledger, accounts = a_stage()
    await shown(accounts, "acme")
    ledger.down = True

    clock.advance(timedelta(days=1).total_seconds())

    assert await shown(accounts, "acme") == {}


async def test_nobody_is_asked_about_nobody_and_nothing_is_left_behind() -> None:
    _, ledger, accounts = a_stage()

    await shown(accounts)
    assert accounts.asking is None
    accounts(["acme"])
    assert accounts.asking is not None
    await accounts.asking

    assert accounts.asking is None
    assert ledger.asked == [["acme"]]
